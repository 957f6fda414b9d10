// The driver of a guest's NIC goes and comes back.

import assert from 'node:assert/strict'
import { type Booted, HOST } from './story.ts'

const TIMES = 20

export function driver(guest: Booted): void {
  describe('unloads its driver', () => {
    it('and the device is reset', async () => {
      await guest().run('address=$(ip addr show eth0 | sed -n "s/.*inet \\([^ ]*\\) .*/\\1/p")')
      await guest().run('rmmod virtio_net')
      for (const nic of guest().nics) {
        const { status, pairs, fault } = nic.inspect()
        // The bus has seen the device, and waits for a driver.
        assert.deepEqual([status, fault], [['ACKNOWLEDGE'], null])
        assert.ok(pairs.every(({ rings, running }) => rings.length === 0 && !running))
      }
      await guest().run('insmod /modules/virtio_net.ko')
    })

    it(`and loads it again, ${TIMES} times`, async () => {
      const before = guest().nics[0]!.stats().activations
      await guest().run(
        `(for i in $(seq ${TIMES}); do rmmod virtio_net && insmod /modules/virtio_net.ko && ip link set eth0 up || exit; done)`,
        170,
      )
      assert.equal(guest().nics[0]!.stats().activations - before, TIMES)
      await guest().run('ip addr add $address dev eth0; ip link set eth0 up')
      assert.match(await guest().run(`ping -c 3 -i 0.1 ${HOST}`), / 0% packet loss/)
      assert.equal(guest().nics[0]!.inspect().fault, null)
    })
  })
}
