// A guest finds its NICs, and takes them for what they are.

import assert from 'node:assert/strict'
import { type Booted, MAC, MTU, SECOND, type Story } from './story.ts'

const FEATURES = [
  ['tx-checksum-ip-generic', 'VIRTIO_NET_F_CSUM'],
  ['tx-tcp-segmentation', 'VIRTIO_NET_F_HOST_TSO4'],
  ['tx-tcp6-segmentation', 'VIRTIO_NET_F_HOST_TSO6'],
  ['tx-udp-segmentation', 'VIRTIO_NET_F_HOST_USO'],
  ['rx-checksumming', 'VIRTIO_NET_F_GUEST_CSUM'],
  ['rx-gro-hw', 'VIRTIO_NET_F_CTRL_GUEST_OFFLOADS'],
] as const

export function probe(guest: Booted, { kernel, smp, queuePairs, transport }: Story): void {
  describe('finds its NICs', () => {
    it('with that kernel, on that many processors', async () => {
      const [release, processors] = (await guest().run('uname -r; nproc')).split('\n')
      const [version, flavour = ''] = kernel.split('-')
      assert.ok(release?.startsWith(`${version}.`) && release.includes(flavour), release)
      assert.equal(processors, String(smp))
    })

    it('with their addresses and MTUs', async () => {
      const found = await guest().run('cd /sys/class/net; cat eth0/address eth0/mtu eth1/address eth1/mtu; ls -1; cd /')
      assert.equal(found, `${MAC}\n${MTU}\n${SECOND.mac}\n1500\neth0\neth1\nlo\n`)
    })

    it('and agrees with each device on the features, bit for bit', async () => {
      for (const [i, nic] of guest().nics.entries()) {
        const bits = (await guest().run(`cat /sys/class/net/eth${i}/device/features`)).trim()
        assert.equal(bits.length, 64)
        assert.equal(BigInt(`0b${[...bits].reverse().join('')}`), nic.accepted & ((1n << 64n) - 1n))
        assert.equal(nic.accepted & ~nic.offered, 0n)
      }
    })

    it('and is told by ethtool what drives them, how many queues they have, and what they count', async () => {
      assert.match(await guest().run('ethtool -i eth0'), /^driver: virtio_net\n/)
      const [most, current] = [...(await guest().run('ethtool -l eth0')).matchAll(/^Combined:\s+(\d+)/gm)]
      assert.equal(most?.[1], String(queuePairs))
      assert.equal(current?.[1], String(queuePairs))
      assert.match(await guest().run('ethtool -S eth0'), /^NIC statistics:\n/)
    })

    it('and may have the offloads that were agreed on', async () => {
      const shown = await guest().run('ethtool -k eth0')
      const explained = guest().nics[0]!.explainFeatures()
      for (const [offload, feature] of FEATURES) {
        const accepted = explained.find(({ name }) => name === feature)!.accepted
        const line = new RegExp(`^\\s*${offload}: (.*)$`, 'm').exec(shown)?.[1]
        // Linux has some switched off at first. What was not agreed on is fixed so, or not known to the kernel.
        assert.equal(line !== undefined && line !== 'off [fixed]', accepted, `${offload}: ${line}`)
      }
    })

    it(`whose interrupts are ${transport === 'mmio' ? 'edges of pins of the I/O APIC' : 'messages, one for each queue'}`, async () => {
      const interrupts = await guest().run('grep virtio /proc/interrupts')
      if (transport === 'mmio') {
        assert.match(interrupts, /IO-APIC +5-edge +virtio0\n.*IO-APIC +6-edge +virtio1/)
        return
      }
      const names = [...interrupts.matchAll(/PCI-MSI.* +(virtio0-\S+)$/gm)].map(([, name]) => name)
      const queues = Array.from({ length: queuePairs }, (_, i) => [`virtio0-input.${i}`, `virtio0-output.${i}`])
      assert.deepEqual(names, ['virtio0-config', ...queues.flat()])
    })
  })
}
