// The link of a NIC, as the guest switches it and as the host does.

import assert from 'node:assert/strict'
import { type Booted, HOST } from './story.ts'

export function link(guest: Booted): void {
  describe('has a link', () => {
    const ping = async () => assert.match(await guest().run(`ping -c 3 -i 0.1 ${HOST}`), / 0% packet loss/)
    /** The guest is told by an interrupt, and looks by itself a moment later. */
    const sees = (carrier: 0 | 1) =>
      guest().run(`until [ "$(cat /sys/class/net/eth0/carrier)" = ${carrier} ]; do :; done`)
    const tap = () => guest().netlink.getLink({ ifname: guest().nics[0]!.backend.ifname })!.index

    it('that it switches off and on', async () => {
      const address = /inet (\S+)/.exec(await guest().run('ip addr show eth0'))![1]
      for (let i = 0; i < 5; i++) await guest().run('ip link set eth0 down; ip link set eth0 up')
      assert.match(await guest().run('ip addr show eth0'), new RegExp(`inet ${address} `))
      await ping()
    })

    it('that goes and comes with the host’s cable', async () => {
      guest().nics[0]!.setLink(false)
      await sees(0)
      guest().nics[0]!.setLink(true)
      await sees(1)
      await ping()
    })

    it('that goes and comes with the tap', async () => {
      guest().netlink.setLink(tap(), { up: false })
      await sees(0)
      guest().netlink.setLink(tap(), { up: true })
      await sees(1)
      await ping()
    })
  })
}
