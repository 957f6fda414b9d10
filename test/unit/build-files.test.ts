// The files that build and guard the package: both builds' sources, the room table, what a shipped binary may need.

import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { concerning } from '../../scripts/asan.ts'
import { checkLayers, readSources } from '../../scripts/check-layers.ts'
import { checkBinary } from '../../scripts/check-prebuilds.ts'
import { checkSources, nativeFiles } from '../../scripts/lint.ts'
import { tools } from '../../scripts/prebuild.ts'

const root = new URL('../../../', import.meta.url)
const read = (file: string) => readFileSync(new URL(file, root), 'utf8')

describe('package.json', () => {
  it('has no script that npm would run before or after another one', () => {
    const names = Object.keys((JSON.parse(read('package.json')) as { scripts: object }).scripts)
    assert.ok(names.includes('prebuild'))
    assert.deepEqual(
      names.filter((name) => names.includes(name.replace(/^(pre|post)(?=.)/, '')) && /^(pre|post)./.test(name)),
      [],
    )
  })
})

describe('native sources', () => {
  it('the CMake build and the node-gyp build compile the same sources', () => {
    const onDisk = nativeFiles(/\.(cc|c)$/)
    assert.deepEqual(checkSources(read('native/CMakeLists.txt'), read('binding.gyp'), onDisk), [])
  })

  it('a source one build forgets, one that is gone and a wrong order are found', () => {
    const cmake = 'set(SOURCES\n  b.cc\n  a.cc\n)'
    const gyp = "'sources': ['native/a.cc', 'native/c.cc']"
    assert.deepEqual(checkSources(cmake, gyp, ['native/a.cc', 'native/b.cc']), [
      'native/CMakeLists.txt does not list its sources in order',
      'binding.gyp does not list native/b.cc',
      'binding.gyp lists native/c.cc, which does not exist',
    ])
  })
})

describe('layers', () => {
  const check = (files: Record<string, string>) =>
    checkLayers(new Map(Object.entries(files))).map(({ file, line, message }) => `${file}:${line}  ${message}`)

  it('this package keeps to its table', () => {
    // TypeScript's parser reads every source of the package.
    assert.deepEqual(checkLayers(readSources(fileURLToPath(root))), [])
  })

  it('what the table allows passes', () => {
    const files = {
      'lib/errors.ts': '',
      'lib/abi/vhost.ts': '',
      'lib/event/eventfd.ts': "import { a } from '../binding/index.ts'\nimport { b } from '../errors.ts'",
      'lib/binding/index.ts': "export { load } from './load.ts'",
      'lib/binding/load.ts': "const find = require('node-gyp-build')",
      'lib/net/device.ts': "import type { NetBackend } from '../backend/contract.ts'",
      'lib/backend/contract.ts': '',
      'lib/backend/index.ts': "export * from './contract.ts'\nexport * from './vhost-net/index.ts'",
      'lib/backend/vhost-net/index.ts': "import type { NetBackend } from '../contract.ts'",
      'lib/interop/qemu.ts': "import type { Options } from '../net/device.ts'",
      'lib/index.ts': "export * from './net/device.ts'",
      'lib/cli/main.ts': "import { a } from '../index.ts'\nimport { b } from '../vmm/index.ts'",
      'native/wrap/vhost.cc': '#include <napi.h>\n#include "sys/vhost.h"',
      'native/sys/vhost.h': '#include <linux/vhost.h>\n#include "sys/result.h"',
      'native/sys/result.h': '',
    }
    assert.deepEqual(check(files), [])
  })

  const failing: [rule: string, files: Record<string, string>, expected: string][] = [
    [
      'a room above',
      { 'lib/event/a.ts': "\nimport { Tap } from '../host/tap.ts'" },
      'lib/event/a.ts:2  room event may not import room host',
    ],
    [
      'a room above, re-exported',
      { 'lib/pci/a.ts': "export * from '../memory/index.ts'" },
      'lib/pci/a.ts:1  room pci may not import room memory',
    ],
    [
      'a room above, through import()',
      { 'lib/virtio/a.ts': "const net = await import('../net/index.ts')" },
      'lib/virtio/a.ts:1  room virtio may not import room net',
    ],
    [
      'a room above, as the type of a value',
      { 'lib/host/a.ts': "let net: import('../net/index.ts').Net" },
      'lib/host/a.ts:1  room host may not import room net',
    ],
    [
      'a backend instead of its contract',
      { 'lib/net/a.ts': "import { V } from '../backend/vhost-net/index.ts'" },
      'lib/net/a.ts:1  room net may not import room backend',
    ],
    [
      'errors importing a room that everybody imports',
      { 'lib/errors.ts': "import { A } from './abi/vhost.ts'" },
      'lib/errors.ts:1  room errors may not import room abi',
    ],
    [
      'abi importing anything',
      { 'lib/abi/a.ts': "import os from 'node:os'" },
      'lib/abi/a.ts:1  room abi may not import anything (node:os)',
    ],
    [
      'a value where only types are allowed',
      { 'lib/interop/a.ts': "import { Net } from '../net/index.ts'" },
      'lib/interop/a.ts:1  room interop may not import room net, except with import type',
    ],
    [
      'the front door from inside',
      { 'lib/kvm/a.ts': "import { Tap } from 'vhost-net'" },
      'lib/kvm/a.ts:1  room kvm may not import room index',
    ],
    [
      'the command from the front door',
      { 'lib/index.ts': "export * from './cli/main.ts'" },
      'lib/index.ts:1  room index may not import room cli',
    ],
    [
      'tests from the library',
      { 'lib/net/a.ts': "import { lab } from '../../test/support/lab.ts'" },
      'lib/net/a.ts:1  room net may not import test',
    ],
    [
      'a folder the table does not know',
      { 'lib/utils/a.ts': '' },
      'lib/utils/a.ts:1  is in no room: add it to the table in scripts/check-layers.ts',
    ],
    [
      'the loader outside lib/binding',
      { 'lib/host/a.ts': "import load from 'node-gyp-build'" },
      'lib/host/a.ts:1  host may not import the addon, only binding may',
    ],
    [
      'a .node file outside lib/binding',
      { 'test/kernel/a.ts': "require('../../build/Release/vhost_net.node')" },
      'test/kernel/a.ts:1  test/kernel/a.ts may not import the addon, only binding may',
    ],
    [
      'a cycle',
      { 'lib/net/a.ts': "import { b } from './b.ts'", 'lib/net/b.ts': "import type { A } from './a.ts'" },
      'lib/net/b.ts:1  cycle: lib/net/a.ts -> lib/net/b.ts -> lib/net/a.ts',
    ],
    [
      'Node-API in native/sys',
      { 'native/sys/a.h': '#pragma once\n#include <napi.h>' },
      'native/sys/a.h:2  room native/sys may not import Node.js (napi.h)',
    ],
    [
      'native/wrap in native/sys',
      { 'native/sys/a.cc': '#include "wrap/convert.h"', 'native/wrap/convert.h': '' },
      'native/sys/a.cc:1  room native/sys may not import room native/wrap',
    ],
  ]
  for (const [rule, files, expected] of failing) {
    it(`refuses ${rule}`, () => assert.deepEqual(check(files), [expected]))
  }
})

describe('prebuilt binaries', () => {
  const elf = (...lines: string[]) => ['  Machine:   AArch64', ...lines].join('\n')
  const imported = (symbol: string, bind = 'GLOBAL') =>
    `  7: 0000000000000000   0 FUNC    ${bind} DEFAULT  UND ${symbol} (3)`

  it('accepts libc and Node-API', () => {
    const needed = ' 0x0001 (NEEDED)   Shared library: [libc.so.6]'
    const symbols = ['memcpy@GLIBC_2.34', 'napi_create_object', 'node_api_get_module_file_name'].map((s) => imported(s))
    assert.deepEqual(checkBinary('linux-arm64', elf(needed, ...symbols, imported('_ZTH1x', 'WEAK'))), [])
  })

  const failing: [what: string, line: string, expected: string][] = [
    ['a newer glibc', imported('arc4random@GLIBC_2.36'), 'imports arc4random@GLIBC_2.36, newer than GLIBC_2.34'],
    ['a shared libstdc++', imported('_Znwm@GLIBCXX_3.4'), 'imports _Znwm@GLIBCXX_3.4, which is not of libc'],
    ['V8', imported('_ZN2v86Locker'), 'imports _ZN2v86Locker, which is not Node-API'],
    ['another library', ' 0x0001 (NEEDED)   Shared library: [libstdc++.so.6]', 'needs libstdc++.so.6'],
    ['symbols left in it', '  [31] .symtab   SYMTAB', 'is not stripped: it has .symtab'],
  ]
  for (const [what, line, expected] of failing) {
    it(`refuses ${what}`, () => assert.deepEqual(checkBinary('linux-arm64', elf(line)), [expected]))
  }

  it('refuses a binary of another machine, and what is no ELF file', () => {
    assert.deepEqual(checkBinary('linux-x64', elf()), ['is for AArch64, but lies in linux-x64'])
    assert.deepEqual(checkBinary('linux-x64', ''), ['is not an ELF file'])
  })
})

describe('what cannot be prebuilt here', () => {
  const other = process.arch === 'x64' ? 'arm64' : 'x64'

  it('has a reason that says where it can: musl', () => {
    assert.match(String(tools({ arch: other, libc: 'musl' })), new RegExp(`on Alpine Linux for ${other}`))
  })

  it('has a reason that names the missing package: the other architecture without a cross compiler', () => {
    const { PATH } = process.env
    process.env.PATH = ''
    try {
      assert.match(String(tools({ arch: other, libc: 'glibc' })), /g\+\+ is missing: install what Debian calls g\+\+-/)
    } finally {
      process.env.PATH = PATH
    }
  })
})

describe('reports of the sanitizers', () => {
  const leak = (...frames: string[]) =>
    ['Direct leak of 40 byte(s) in 1 object(s) allocated from:', ...frames].join('\n')
  const allocator =
    '    #0 0x7f in operator new(unsigned long) ../../../../src/libsanitizer/asan/asan_new_delete.cpp:95'
  const node = '    #1 0xc5 in napi_create_external (/usr/bin/node+0xc50413)'
  const addon = '    #2 0x7f in create_eventfd /home/me/vhost-net/native/wrap/files.cc:42'
  const log = (...leaks: string[]) =>
    ['==1==ERROR: LeakSanitizer: detected memory leaks\n', ...leaks, 'SUMMARY: AddressSanitizer: 40 byte(s)'].join('\n')

  it('a leak is ours where our code allocated it, and not where Node.js did on our behalf', () => {
    const inlined = '    #1 0x7f in std::vector<int>::reserve(unsigned long) /usr/include/c++/12/bits/vector.tcc:75'
    const mine = leak(allocator, inlined, addon, node)
    assert.deepEqual(concerning(log(leak(allocator, node, addon), mine)), [mine])
    const nameless = leak(
      allocator,
      '    #1 0x7f  (/home/me/vhost-net/build/asan/build/Release/vhost_net.node+0x1f)',
      node,
    )
    assert.deepEqual(concerning(log(nameless)), [nameless])
  })

  it('every other report is one', () => {
    for (const line of [
      '==1==ERROR: AddressSanitizer: heap-use-after-free on address 0x60',
      'native/sys/driver_ring.cc:42:3: runtime error: signed integer overflow',
    ]) {
      assert.equal(concerning(`${line}\n${addon}\n`).length, 1, line)
    }
    assert.deepEqual(concerning(''), [])
  })
})
