// A tap that somebody deletes.

import assert from 'node:assert/strict'
import { once } from 'node:events'
import { type AddressInfo, createServer } from 'node:net'
import { soon } from '../../support/soon.ts'
import { type Booted, HOST, SECOND, seesCarrier, tapOf } from './story.ts'

const SOME_BYTES = 1 << 20

export function lostTap(guest: Booted): void {
  describe('whose tap is deleted while it sends and receives', () => {
    const faults: unknown[] = []

    before('is deleted', async () => {
      const { netlink, nics } = guest()
      nics[0]!.on('fault', (fault) => faults.push(fault))
      let received = 0
      // Each byte comes back, until nothing does.
      const server = createServer((socket) => {
        socket.on('data', (bytes) => {
          received += bytes.length
        })
        socket.on('error', () => undefined)
        socket.pipe(socket)
      }).listen(0, HOST)
      await once(server, 'listening')
      const { port } = server.address() as AddressInfo
      const connection = once(server, 'connection')
      await guest().run(`socat -b 65536 '/dev/zero!!/dev/null' TCP:${HOST}:${port} &`)
      const [socket] = await connection
      await soon('traffic', () => received > SOME_BYTES, 60)
      netlink.deleteLink(tapOf(guest()))
      socket.destroy()
      server.close()
    })

    it('sees its carrier go, and nothing else of it', async () => {
      await seesCarrier(guest(), 0)
      assert.match(await guest().run('ip link show eth0'), /NO-CARRIER/)
      assert.equal(guest().nics[0]!.inspect().link.up, false)
      assert.deepEqual(faults, [])
    })

    it('goes on with its other NIC', async () => {
      assert.match(await guest().run(`ping -c 3 -i 0.1 ${SECOND.host}`), / 0% packet loss/)
    })

    it('may switch it off and on, and set its queues', async () => {
      await guest().run('ip link set eth0 down; ip link set eth0 up')
      await guest().try('ethtool -L eth0 combined 1')
      assert.match(await guest().run('ip link show eth0'), /NO-CARRIER/)
    })

    it('may take its driver from the device', async () => {
      await guest().run('echo virtio0 > /sys/bus/virtio/drivers/virtio_net/unbind')
      assert.deepEqual(guest().nics[0]!.inspect().status, ['ACKNOWLEDGE'])
      assert.match(await guest().run(`ping -c 3 -i 0.1 ${SECOND.host}`), / 0% packet loss/)
    })
  })
}
