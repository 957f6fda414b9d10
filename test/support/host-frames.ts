// Frames that the host's own stack sends to the reader of a tap.

import { createSocket } from 'node:dgram'
import { readSync } from 'node:fs'
import type { Tap } from '../../lib/host/index.ts'
import { ip } from './tuntap.ts'

const network = '10.79.0'

/** Gives the tap an address of the host's, and sets it up. */
export function setUpHost(ifname: string): void {
  ip('link', 'set', ifname, 'addrgenmode', 'none')
  ip('address', 'add', `${network}.1/24`, 'dev', ifname)
  ip('link', 'set', ifname, 'up')
}

/** Sends a UDP datagram with so many bytes to a MAC address, in as many packets as the tap's MTU makes of it. */
export async function sendDatagram(ifname: string, mac: string, bytes: number): Promise<void> {
  const socket = createSocket('udp4')
  try {
    ip('neighbour', 'replace', `${network}.2`, 'lladdr', mac, 'nud', 'permanent', 'dev', ifname)
    await new Promise<void>((resolve, reject) =>
      socket.send(Buffer.alloc(bytes), 7, `${network}.2`, (error) => (error ? reject(error) : resolve())),
    )
  } finally {
    await new Promise<void>((resolve) => socket.close(resolve))
  }
}

/** Sends one UDP datagram to each MAC address, in this order; they are in the tap's queue when this resolves. */
export async function sendFrames(ifname: string, ...macs: readonly string[]): Promise<void> {
  const socket = createSocket('udp4')
  try {
    for (const [i, mac] of macs.entries()) {
      ip('neighbour', 'replace', `${network}.${i + 2}`, 'lladdr', mac, 'nud', 'permanent', 'dev', ifname)
      await new Promise<void>((resolve, reject) =>
        socket.send('a datagram of the host', 7, `${network}.${i + 2}`, (error) => (error ? reject(error) : resolve())),
      )
    }
  } finally {
    await new Promise<void>((resolve) => socket.close(resolve))
  }
}

/** What this queue holds, as frames without virtio header. */
export function takeFrames(tap: Tap): Buffer[] {
  const frames: Buffer[] = []
  const buffer = Buffer.alloc(65536)
  for (;;) {
    try {
      frames.push(Buffer.from(buffer.subarray(0, readSync(tap.fd, buffer))))
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'EAGAIN') return frames
      throw error
    }
  }
}
