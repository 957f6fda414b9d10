// Which processes have a tap open: the kernel writes the device's name into what /proc says of an open file.

import { readdirSync, readFileSync } from 'node:fs'

export interface TapUser {
  pid: number
  /** The program's name, at most 15 bytes of it. */
  name: string
}

/**
 * By the names of taps, as far as this process may look: without CAP_SYS_PTRACE only at its own user's. Macvtaps are not
 * told: their files do not say whose they are.
 * @see tun_chr_show_fdinfo in drivers/net/tun.c
 */
export function tapUsers(): Map<string, TapUser[]> {
  const users = new Map<string, TapUser[]>()
  for (const pid of readdirSync('/proc').filter((name) => /^\d+$/.test(name))) {
    const names = new Set(filesOf(pid).flatMap((info) => /^iff:\t(.+)$/m.exec(info)?.[1] ?? []))
    const name = names.size === 0 ? '' : (read(`/proc/${pid}/comm`)?.trim() ?? '')
    for (const ifname of names) users.set(ifname, [...(users.get(ifname) ?? []), { pid: Number(pid), name }])
  }
  return users
}

function filesOf(pid: string): string[] {
  const directory = `/proc/${pid}/fdinfo`
  return (list(directory) ?? []).flatMap((fd) => read(`${directory}/${fd}`) ?? [])
}

/** Processes and their files end while they are looked at, and some are not for this user. */
function unlessGone<T>(look: () => T): T | undefined {
  try {
    return look()
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code === 'ENOENT' || code === 'ESRCH' || code === 'EACCES' || code === 'EPERM') return undefined
    throw error
  }
}

const list = (directory: string): string[] | undefined => unlessGone(() => readdirSync(directory))
const read = (file: string): string | undefined => unlessGone(() => readFileSync(file, 'utf8'))
