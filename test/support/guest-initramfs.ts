// The first and only root of a guest: busybox, the modules of virtio over MMIO, and a script.

import { readFileSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import type { Kernel } from '../../scripts/lab/kernels.ts'
import { NewcArchive } from '../../scripts/lab/newc.ts'

const applets = ['cat', 'grep', 'insmod', 'ip', 'mount', 'nproc', 'ping', 'poweroff', 'reboot', 'sh', 'uname']

/** Files of modules, each behind the ones that it needs. */
function moduleFiles({ root, release }: Kernel, names: readonly string[]): string[] {
  const directory = path.join(root, 'lib/modules', release)
  const ordered = new Set<string>()
  for (const line of readFileSync(path.join(directory, 'modules.dep'), 'utf8').split('\n')) {
    const [file = '', needed = ''] = line.split(':')
    if (!names.includes(path.basename(file, '.ko'))) continue
    // depmod lists what a module needs from the nearest to the farthest.
    for (const each of needed.split(' ').filter(Boolean).reverse()) ordered.add(each)
    ordered.add(file)
  }
  return [...ordered].map((file) => path.join(directory, file))
}

/**
 * Writes it to `file`. What each section prints is between its name and the next one's, in lines of their own; see
 * {@link sections}.
 */
export function writeGuestInitramfs(kernel: Kernel, file: string, script: Readonly<Record<string, string>>): void {
  const archive = new NewcArchive()
  for (const directory of ['proc', 'sys', 'dev']) archive.directory(directory)
  archive.file('bin/busybox', readFileSync('/bin/busybox'))
  for (const applet of applets) archive.symlink(`bin/${applet}`, 'busybox')
  const modules = moduleFiles(kernel, ['virtio_mmio', 'virtio_net'])
  for (const each of modules) archive.file(`modules/${path.basename(each)}`, readFileSync(each))
  const lines = [
    '#!/bin/sh',
    'mount -t proc proc /proc',
    'mount -t sysfs sys /sys',
    'mount -t devtmpfs dev /dev',
    ...modules.map((each) => `insmod /modules/${path.basename(each)}`),
    ...Object.entries(script).flatMap(([name, commands]) => [`echo '${MARK}${name}'`, commands]),
  ]
  archive.file('init', `${lines.join('\n')}\n`)
  writeFileSync(file, archive.finish())
}

const MARK = '=== '

/** What a guest's sections printed, by their names. */
export function sections(console: string): Map<string, string> {
  const parts = console.replaceAll('\r', '').split(MARK).slice(1)
  return new Map(
    parts.map((part): [string, string] => [part.slice(0, part.indexOf('\n')), part.slice(part.indexOf('\n') + 1)]),
  )
}
