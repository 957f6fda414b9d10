// The lab's command line.

import path from 'node:path'
import { parseArgs } from 'node:util'
import { exitCodes, LabError } from './failure.ts'
import { defaultKernel, isKernelName, type KernelName, kernelNames } from './kernels.ts'
import { cacheDirectory } from './project.ts'

export const usage = `Usage: npm run lab -- [options] -- COMMAND [ARGUMENT...]
       npm run lab -- [options] --shell

Runs COMMAND as root on a stock Debian kernel with vhost-net, tun and nested KVM, in an emulated machine that sees
this machine's files. Whatever COMMAND writes is thrown away at the end, except in the out folder.

Options:
  --kernel ${kernelNames.join('|')}   the kernel to boot (default ${defaultKernel})
  --cpus N                number of CPUs, which take turns (default 2)
  --memory M              MiB of memory (default 2048)
  --append WORDS          further words for the kernel's command line
  --env NAME=VALUE        sets a variable for COMMAND; can be repeated
  --out DIR               the folder that COMMAND can write to (default .lab/out)
  --timeout S             seconds for everything (default 1200)
  --quiet-timeout S       seconds without any output (default 120)
  --guests                for guests of its KVM: one CPU, and a clock that ticks all the time
  --nic NETDEV            a NIC of virtio, on what QEMU's -netdev says, such as user,restrict=on; can be repeated
  --icount                counts instructions instead of time: repeatable, one CPU, slow
  --shell                 an interactive shell instead of COMMAND, without time limits
  --here                  runs COMMAND on this machine itself, which then needs vhost-net
  --help                  this text

COMMAND gets its arguments as they are: for a pipeline use sh -c '...'. Its environment is PATH, HOME, TERM, LAB=1,
LAB_KERNEL (what uname -r says), LAB_OUT (the out folder's path, the same inside and outside) and --env.

Exit code: COMMAND's own, or 128 + N if signal N ended it, or one of the lab's:
  119  the lab could not be prepared        122  no output for too long
  120  wrong usage                          123  QEMU ended before COMMAND did
  121  the kernel panicked                  124  the time limit is over
  129, 130, 141, 143  the lab itself got SIGHUP, SIGINT, SIGPIPE (its stdout was closed), SIGTERM
If it is COMMAND that ends with one of these, the lab says so on stderr.

Kernels come from the Debian mirror that apt uses on this machine, or from the one that the variable LAB_MIRROR names,
with Debian's signature checked. Everything that the lab itself says goes to stderr. The kernel's console is kept in
.lab/console-0.log; of a lab that runs beside another one, in console-1.log, and so on: there can be as many as CPUs.
`

export interface LabOptions {
  readonly kernel: KernelName
  readonly cpus: number
  readonly memory: number
  readonly append: string
  readonly environment: Readonly<Record<string, string>>
  readonly outDirectory: string
  readonly timeout: number
  readonly quietTimeout: number
  readonly guests: boolean
  readonly nics: readonly string[]
  readonly icount: boolean
  readonly shell: boolean
  readonly here: boolean
  readonly command: readonly string[]
}

const wrong = (message: string, cause?: unknown): LabError =>
  new LabError(exitCodes.usage, `${message}\nSee npm run lab -- --help`, { cause })

const positive = (name: string, text: string): number => {
  const value = Number(text)
  if (Number.isInteger(value) && value > 0) return value
  throw wrong(`--${name} needs a whole number above 0, not ${JSON.stringify(text)}`)
}

const parse = (args: readonly string[]) => {
  try {
    return parseArgs({
      args: [...args],
      allowPositionals: true,
      tokens: true,
      options: {
        kernel: { type: 'string', default: defaultKernel as string },
        cpus: { type: 'string' },
        memory: { type: 'string', default: '2048' },
        append: { type: 'string', default: '' },
        env: { type: 'string', multiple: true, default: [] },
        out: { type: 'string', default: path.join(cacheDirectory, 'out') },
        timeout: { type: 'string', default: '1200' },
        'quiet-timeout': { type: 'string', default: '120' },
        guests: { type: 'boolean', default: false },
        nic: { type: 'string', multiple: true, default: [] },
        icount: { type: 'boolean', default: false },
        shell: { type: 'boolean', default: false },
        here: { type: 'boolean', default: false },
        help: { type: 'boolean', default: false },
      },
    })
  } catch (error) {
    throw wrong((error as Error).message, error)
  }
}

const parseEnvironment = (assignments: readonly string[]): Record<string, string> => {
  const entries = assignments.map((assignment) => {
    const match = /^([A-Za-z_]\w*)=([\s\S]*)$/.exec(assignment)
    if (match === null) throw wrong(`--env needs NAME=VALUE, not ${JSON.stringify(assignment)}`)
    return [match[1], match[2]]
  })
  return Object.fromEntries(entries) as Record<string, string>
}

/** Undefined if help was asked for. */
export const parseOptions = (args: readonly string[]): LabOptions | undefined => {
  const { values, positionals, tokens } = parse(args)
  if (values.help) return undefined
  const { kernel, guests, icount, shell, here } = values
  // Without the mark, options of COMMAND would silently become options of the lab.
  const mark = tokens.find((token) => token.kind === 'option-terminator')
  const stray = tokens.find((token) => token.kind === 'positional' && (mark === undefined || token.index < mark.index))
  if (stray !== undefined) throw wrong('COMMAND must come after --')
  if (shell === positionals.length > 0) throw wrong('give either a COMMAND after -- or --shell')
  if (shell && here) throw wrong('--shell is for the lab; here you have a shell already')
  if (!isKernelName(kernel)) throw wrong(`--kernel must be one of ${kernelNames.join(', ')}`)
  for (const [option, chosen] of Object.entries({ guests, icount })) {
    if (chosen && (values.cpus ?? '1') !== '1') throw wrong(`--${option} allows one CPU only`)
  }
  const outDirectory = path.resolve(values.out)
  if (outDirectory.includes('\n')) throw wrong('the path of the out folder must not contain a line break')
  return {
    kernel,
    cpus: positive('cpus', values.cpus ?? (guests || icount ? '1' : '2')),
    memory: positive('memory', values.memory),
    append: values.append,
    environment: parseEnvironment(values.env),
    outDirectory,
    timeout: positive('timeout', values.timeout),
    quietTimeout: positive('quiet-timeout', values['quiet-timeout']),
    guests,
    nics: values.nic,
    icount,
    shell,
    here,
    command: positionals,
  }
}
