// DPDK's testpmd. Debian's package of it stands on DPDK's development files, which are hundreds of packages.

import path from 'node:path'
import { exitCodes, LabError } from '../lab/failure.ts'
import { cacheDirectory } from '../lab/project.ts'
import { LINKER, provideUnpacked } from './unpacked.ts'

const PROGRAM = 'dpdk-testpmd'
const PACKAGE = 'dpdk-dev'
/** What it loads when it is told to: a driver, and what its buffers come from. The number is of the libraries' interface. */
const PLUGIN_PACKAGES = [/^librte-net-virtio\d+$/, /^librte-mempool-ring\d+$/]

/** Where all of it lies, in one directory. */
export const dpdkDirectory = path.join(cacheDirectory, 'dpdk')

export interface Dpdk {
  /** Files below `dpdkDirectory`. */
  readonly files: readonly string[]
  /** One of them, which runs `program` with `--library-path`. */
  readonly linker: string
  readonly program: string
  /** To be named to the program with `-d`. */
  readonly plugins: readonly string[]
}

/** `librte_net_virtio.so.25` in `librte-net-virtio25`. */
const libraryIn = (name: string): string => name.replaceAll('-', '_').replace(/(?=\d+$)/, '.so.')

const isPlugin = (name: string): boolean => PLUGIN_PACKAGES.some((pattern) => pattern.test(name))

/** From the cache, which is filled first where necessary. */
export const provideDpdk = async (): Promise<Dpdk> => {
  const { files, plugins } = await provideUnpacked({
    name: 'DPDK',
    directory: dpdkDirectory,
    packages: (suite) => {
      const found = PLUGIN_PACKAGES.map((pattern) => suite.find(pattern)[0]).filter((name) => name !== undefined)
      if (found.length === PLUGIN_PACKAGES.length) return [PACKAGE, ...found]
      throw new LabError(exitCodes.notReady, `Debian has no such packages any more as ${PLUGIN_PACKAGES.join(', ')}`)
    },
    programs: [`usr/bin/${PROGRAM}`],
    plugins: (packages) => packages.filter(isPlugin).map(libraryIn),
  })
  return { files, linker: LINKER, program: PROGRAM, plugins }
}
