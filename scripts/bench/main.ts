// `npm run bench`: what things cost, measured in the lab.

import { LabError } from '../lab/failure.ts'
import { benchDriver } from './driver.ts'
import { benchVmm } from './vmm.ts'

const usage = `Usage: npm run bench -- driver [options]
       npm run bench -- vmm [options]

driver: instructions of the whole machine for each packet: of the driver in this package, of a program in C, of Node's fs on a
tap; system calls of queue pairs; memory that opening and closing them leaves. In the lab, by counting instructions: the
same on every host, whatever else runs on it.

Options:
  --baseline FILE   the program in C (default ../shared/bench/vnet.c)
  --rounds N        samples of each path (default 5)
  --cycles N        times a queue pair is opened and closed (default 10000)
  --kernel NAME     the kernel to boot (default 6.12)
  --only TEXT       only paths that have it in their names, and C: 'tx 64', 'bursts'
  --out DIR         where driver.json and driver.svg go (default .lab/bench)
  --json            the result as JSON on stdout, instead of the table

Exit code: 0 if every figure that must be reached is, else 1.

vmm: a guest on this package's machine, and on QEMU's pc and microvm with vhost=on, and pc with vhost=off, in turn in one
boot of the lab: how long until its first ping is answered, rates of traffic, what a packet costs in notifications and
exits, and memory.

Options:
  --boots N         boots of each, alone (default 10)
  --rounds N        rounds of traffic, with all guests running (default 10)
  --only LIST       of ours,pc,microvm,user-space
  --traffic LIST    of tcp-out,tcp-in,udp-out,udp-in,rr
  --seconds S       of each traffic (default 2)
  --smp N           processors of the guest, with a queue pair each (default 1)
  --memory M        MiB of each guest (default 256)
  --kernel NAME     the lab's kernel, --guest NAME the guest's (default 6.12)
  --image NAME      vmlinux (default) or vmlinuz
  --out DIR         where vmm.json and vmm.svg go (default .lab/bench)
  --again           shows what was measured last, anew
  --json            the result as JSON on stdout, instead of the table

Exit code: 0 if kicks, calls and exits of a packet are at most 1.05 times QEMU's, and user space and event loop sleep
meanwhile; else 1. Other goals that are missed are said to be.
`

const [what, ...args] = process.argv.slice(2)
try {
  if (what === 'driver') process.exitCode = await benchDriver(args)
  else if (what === 'vmm') process.exitCode = await benchVmm(args)
  else {
    process.stdout.write(usage)
    process.exitCode = what === '--help' ? 0 : 2
  }
} catch (error) {
  if (!(error instanceof LabError)) throw error
  process.stderr.write(`bench: ${error.message}\n`)
  process.exitCode = error.exitCode
}
