// What a guest wants to receive, as its driver tells the device.

import assert from 'node:assert/strict'
import { createSocket } from 'node:dgram'
import { once } from 'node:events'
import { soon } from '../../support/soon.ts'
import { type Booted, HOST } from './story.ts'

const GROUP = { address: '239.1.2.3', mac: '01:00:5e:01:02:03', port: 5000 } as const

export function filters(guest: Booted): void {
  describe('chooses what it receives', () => {
    const modes = () => guest().nics[0]!.inspect().rxModes

    it('promiscuously', async () => {
      await soon('filtered', () => !modes().promiscuous)
      await guest().run('ip link set eth0 promisc on')
      await soon('promiscuous', () => modes().promiscuous)
      await guest().run('ip link set eth0 promisc off')
      await soon('filtered again', () => !modes().promiscuous)
    })

    it('of multicast all', async () => {
      await guest().run('ifconfig eth0 allmulti')
      await soon('all of it', () => modes().allMulticast)
      await guest().run('ifconfig eth0 -allmulti')
      await soon('not all of it', () => !modes().allMulticast)
    })

    it('of multicast the groups that it has joined, and gets what is sent to them', async () => {
      const membership = `ip-add-membership=${GROUP.address}:eth0`
      await guest().run(`socat -u UDP-RECV:${GROUP.port},${membership},readbytes=5 - > /tmp/heard & echo $! > /tmp/pid`)
      // socat joins first, and takes the port then.
      await guest().run(`until grep -q :${GROUP.port.toString(16).toUpperCase()} /proc/net/udp; do :; done`)
      await soon('its group is in the table', () => modes().multicast.includes(GROUP.mac))
      const socket = createSocket('udp4').bind(0, HOST)
      try {
        await once(socket, 'listening')
        socket.setMulticastInterface(HOST)
        socket.send('hello', GROUP.port, GROUP.address)
        assert.equal(await guest().run('wait $(cat /tmp/pid); cat /tmp/heard; echo'), 'hello\n')
      } finally {
        socket.close()
        await once(socket, 'close')
      }
    })
  })
}
