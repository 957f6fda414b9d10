// Finds and loads the addon on first use; the only file that sees it.

import { createRequire } from 'node:module'
import path from 'node:path'
import { UnsupportedError } from '../errors.ts'
import type { Binding } from './contract.ts'

let loaded: Binding | undefined

/**
 * The addon.
 * @throws {UnsupportedError} `ERR_PLATFORM` off Linux, `ERR_NO_BINDING` where no binary fits this machine.
 */
export function binding(): Binding {
  loaded ??= load()
  return loaded
}

function load(): Binding {
  if (process.platform !== 'linux') {
    throw new UnsupportedError('ERR_PLATFORM', `vhost-net runs on Linux only, not on ${process.platform}`, {
      hint: 'Importing the package works everywhere; opening anything needs Linux with vhost_net and tun.',
    })
  }
  try {
    const require = createRequire(import.meta.url)
    const find = require('node-gyp-build') as (root: string) => Binding
    // By the package's own name: this file may be in lib/, dist/lib/ or dist/bin/.
    return find(path.dirname(require.resolve('vhost-net/package.json')))
  } catch (cause) {
    throw new UnsupportedError('ERR_NO_BINDING', `no native addon for ${process.platform}-${process.arch}`, {
      hint: 'Build it: npm explore vhost-net -- npm run build:native (needs g++, make and python3).',
      cause,
    })
  }
}

/**
 * Puts a wrapper around the real addon and returns what removes it; for tests that record calls or make one fail.
 * @internal
 */
export function interpose(wrap: (real: Binding) => Binding): () => void {
  const real = binding()
  loaded = wrap(real)
  return () => {
    loaded = real
  }
}
