// A DHCP server on a tap: dnsmasq, as libvirt runs it. It answers from a UDP socket, so that the kernel leaves the checksum
// of its answers to whoever takes them off the tap.

import { Server } from './server.ts'

export interface DhcpServerOptions {
  ifname: string
  /** Addresses to give away, the first and the last. */
  range: readonly [string, string]
}

export const startDhcpServer = ({ ifname, range }: DhcpServerOptions): Promise<Server> =>
  Server.start({
    command: 'dnsmasq',
    args: [
      ...['--conf-file=/dev/null', '--keep-in-foreground', '--log-facility=-', '--user=root', '--pid-file='],
      ...['--port=0', '--no-ping', '--leasefile-ro', '--bind-interfaces', `--interface=${ifname}`],
      `--dhcp-range=${range.join(',')},1h`,
    ],
    serves: 'started',
  })
