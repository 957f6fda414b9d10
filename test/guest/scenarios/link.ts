// The link of a NIC, as the guest switches it and as the host does.

import assert from 'node:assert/strict'
import { type Booted, HOST, seesCarrier, tapOf } from './story.ts'

export function link(guest: Booted): void {
  describe('has a link', () => {
    const ping = async () => assert.match(await guest().run(`ping -c 3 -i 0.1 ${HOST}`), / 0% packet loss/)

    it('that it switches off and on', async () => {
      const address = /inet (\S+)/.exec(await guest().run('ip addr show eth0'))![1]
      for (let i = 0; i < 5; i++) await guest().run('ip link set eth0 down; ip link set eth0 up')
      assert.match(await guest().run('ip addr show eth0'), new RegExp(`inet ${address} `))
      await ping()
    })

    it('that goes and comes with the host’s cable', async () => {
      guest().nics[0]!.setLink(false)
      await seesCarrier(guest(), 0)
      guest().nics[0]!.setLink(true)
      await seesCarrier(guest(), 1)
      await ping()
    })

    it('that goes and comes with the tap', async () => {
      guest().netlink.setLink(tapOf(guest()), { up: false })
      await seesCarrier(guest(), 0)
      guest().netlink.setLink(tapOf(guest()), { up: true })
      await seesCarrier(guest(), 1)
      await ping()
    })
  })
}
