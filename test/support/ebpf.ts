// eBPF programs for tests. Node.js cannot call bpf(2): Python loads them and becomes the Node.js that uses them.

import { execFileSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'

// argv: x86-64 or arm64 number of bpf(2), Node.js, script; then a "type:value" for each program, which returns value.
// Each is replaced by the number of the program's fd.
const loader = `
import ctypes, os, struct, sys
libc = ctypes.CDLL(None, use_errno=True)
def load(kind, value):
    code = struct.pack('<BBhi', 0xb7, 0, 0, value) + struct.pack('<BBhi', 0x95, 0, 0, 0)
    text, license = ctypes.create_string_buffer(code), ctypes.create_string_buffer(b'GPL')
    attr = struct.pack('<IIQQ', kind, 2, ctypes.addressof(text), ctypes.addressof(license)).ljust(128, b'\\0')
    fd = libc.syscall(int(sys.argv[1]), 5, ctypes.create_string_buffer(attr), 128)
    if fd < 0: raise OSError(ctypes.get_errno(), 'BPF_PROG_LOAD')
    os.set_inheritable(fd, True)
    return str(fd)
programs = [load(*map(int, program.split(':'))) for program in sys.argv[4:]]
os.execv(sys.argv[2], sys.argv[2:4] + programs)
`

export const BPF_PROG_TYPE_SOCKET_FILTER = 1
export const BPF_PROG_TYPE_XDP = 6

const script = fileURLToPath(new URL('./ebpf-child.js', import.meta.url))

/** Runs ebpf-child.ts with programs that return a value each; what it prints, parsed. */
export function runWithPrograms(...programs: readonly (readonly [type: number, value: number])[]): unknown {
  const bpf = process.arch === 'arm64' ? '280' : '321'
  const args = ['-c', loader, bpf, process.execPath, script, ...programs.map((program) => program.join(':'))]
  return JSON.parse(execFileSync('python3', args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] }))
}
