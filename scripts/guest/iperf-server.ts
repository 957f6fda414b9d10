// iperf3's server, in the host of a guest.

import { Server } from './server.ts'

export const startIperfServer = (address: string, port = 5201): Promise<Server> =>
  Server.start({
    command: 'iperf3',
    args: ['--server', '--bind', address, '--port', String(port), '--forceflush'],
    serves: 'listening',
  })
