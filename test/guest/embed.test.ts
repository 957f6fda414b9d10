// The device in a VMM that is not ours: examples/embed as its reader runs it, and interrupts on the VM that its addon makes.

import assert from 'node:assert/strict'
import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process'
import { closeSync, readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import path from 'node:path'
import { KVM_IRQ_ROUTING_ENTRY, KVM_LAPIC } from '../../lib/abi/kvm.ts'
import { SystemCallError } from '../../lib/errors.ts'
import { EventFd } from '../../lib/event/index.ts'
import { KvmVm } from '../../lib/host/index.ts'
import { GsiRoutes, KvmInterrupts } from '../../lib/kvm/index.ts'
import { projectRoot } from '../../scripts/lab/project.ts'
import { embedDirectory } from '../../scripts/test/embed.ts'
import { end } from '../support/command.ts'
import { leavesNothing } from '../support/leaves-nothing.ts'

/** As vmm.c has it. */
interface Vmm {
  create(memorySize: number, entry: number): object
  vmFd(vm: object): number
  messageRoute(gsi: number, vector: number): Buffer
  raise(vm: object, gsi: number): void
  close(vm: object): void
}

describe('examples/embed', () => {
  leavesNothing()

  /** With namespaces of its own, in which `prepare` is run first. */
  const run = (prepare: string) => {
    const script = `${prepare} && exec "$0" main.mjs`
    const args = ['--mount', '--net', 'sh', '-c', script, process.execPath]
    return end(spawn('unshare', args, { cwd: embedDirectory }))
  }

  it('is what docs/embedding.md quotes', () => {
    const read = (file: string) => readFileSync(path.join(projectRoot, file), 'utf8')
    const program = read('examples/embed/main.mjs')
    const quotes = [...read('docs/embedding.md').matchAll(/```js\n(.*?)```/gs)].map(([, quote]) => quote!)
    assert.ok(quotes.length > 0)
    for (const quote of quotes) assert.ok(program.includes(quote), quote)
  })

  it('gets an answer from the host; neither kicks nor interrupts pass through JavaScript', async () => {
    const { code, stdout, stderr } = await run('true')
    assert.equal(stderr, '')
    const [question, answer, own, exits, ...others] = stdout.split('\n')
    assert.equal(question, 'I have 52:54:00:12:34:56. Who has 192.0.2.1?')
    const [, kicks, interrupts] = /^192\.0\.2\.1 is at (?:[0-9a-f]{2}:?){6}\. Kicks: (\d+), interrupts: (\d+)\.$/.exec(
      answer!,
    )!
    assert.ok(Number(kicks) > 0 && Number(interrupts) > 0, answer)
    assert.equal(own, 'The VMM interrupted me, too.')
    assert.match(exits!, /^\d+ accesses of registers passed through JavaScript, 0 of them kicks\.$/)
    assert.deepEqual(others, [''])
    assert.equal(code, 0)
  })

  it('fails where nobody answers', async () => {
    // ARP requests are not answered (Documentation/networking/ip-sysctl.rst).
    const { code, stdout } = await run('echo 8 >/proc/sys/net/ipv4/conf/all/arp_ignore')
    assert.match(stdout, /\nnobody answered for 5 seconds\n/)
    assert.equal(code, 1)
  })

  it('says what is missing without /dev/kvm', async () => {
    const { code, stdout, stderr } = await run('mount -t tmpfs tmpfs /dev')
    assert.match(stderr, /^Error: open \/dev\/kvm: No such file or directory$/m)
    assert.equal(stdout, '')
    assert.equal(code, 1)
  })

  it('says what is missing without vhost-net', async () => {
    const { code, stderr } = await run('mount --bind /dev/null /dev/vhost-net')
    assert.match(stderr, /SystemCallError: VHOST_SET_OWNER on \/dev\/vhost-net: ENOTTY/)
    assert.equal(code, 1)
  })
})

describe('a VM that other code made', () => {
  const OWN = { gsi: 24, vector: 0x31 }
  const OURS = 0x41
  /** Of a vCPU besides the VMM's own, whose local APIC can be looked into. */
  const APIC_ID = 1
  const ADDRESS = 0xfee0_0000 + (APIC_ID << 12)

  const closing = leavesNothing()
  let vmm: Vmm

  before(() => {
    vmm = createRequire(import.meta.url)(path.join(embedDirectory, 'build/Release/vmm.node')) as Vmm
  })

  const foreign = () => {
    const vm = vmm.create(1 << 20, 0)
    closing.add(() => vmm.close(vm))
    return vm
  }

  const ownRoute = (vector: number): Buffer => {
    const entry = vmm.messageRoute(OWN.gsi, vector)
    entry.writeUInt32LE(ADDRESS, KVM_IRQ_ROUTING_ENTRY.msi.address_lo)
    return entry
  }

  /** Takes the vectors that wait in the local APIC. */
  const apicOf = (kvm: KvmVm): (() => number[]) => {
    const vcpu = closing.own(kvm.createVcpu(APIC_ID))
    const fresh = vcpu.getLapic()
    new DataView(fresh.buffer).setUint32(KVM_LAPIC.spiv, 0x1ff, true)
    vcpu.setLapic(fresh)
    return () => {
      const lapic = new DataView(vcpu.getLapic().buffer)
      vcpu.setLapic(fresh)
      const bit = (vector: number) => lapic.getUint32(KVM_LAPIC.irr + 16 * (vector >> 5), true) >>> (vector & 31)
      return Array.from({ length: 256 }, (_, vector) => vector).filter((vector) => (bit(vector) & 1) === 1)
    }
  }

  it('has its own routes beside ours, whose GSIs are of the range that it gave', () => {
    const vm = foreign()
    const kvm = closing.own(KvmVm.fromFd(vmm.vmFd(vm)))
    const raised = apicOf(kvm)
    const routes = new GsiRoutes(kvm, { first: 100, count: 2, others: ownRoute(OWN.vector) })
    assert.throws(() => routes.allocate(3), { code: 'ERR_OPTION_RANGE' })
    const gsis = routes.allocate(2)
    assert.deepEqual(gsis, [100, 101])
    for (const [i, gsi] of gsis.entries()) routes.setMessage(gsi, { address: BigInt(ADDRESS), data: OURS + i })
    routes.commit()

    const interrupts = new KvmInterrupts(kvm, gsis)
    const calls = gsis.map(() => closing.own(EventFd.create()))
    for (const [i, call] of calls.entries()) interrupts.connect(i, call)
    vmm.raise(vm, OWN.gsi)
    assert.deepEqual(raised(), [OWN.vector])
    for (const call of calls) call.signal()
    assert.deepEqual(raised(), [OURS, OURS + 1])

    routes.setOthers(ownRoute(OWN.vector + 1))
    routes.release(gsis.slice(1))
    routes.commit()
    vmm.raise(vm, OWN.gsi)
    for (const call of calls) call.signal()
    assert.deepEqual(raised(), [OWN.vector + 1, OURS])
  })

  it('stays when our descriptor of it is closed, with what was connected through it', () => {
    const vm = foreign()
    const observer = closing.own(KvmVm.fromFd(vmm.vmFd(vm)))
    const raised = apicOf(observer)
    const kvm = closing.own(KvmVm.fromFd(vmm.vmFd(vm)))
    const routes = new GsiRoutes(kvm, { first: 100, count: 1, others: ownRoute(OWN.vector) })
    const gsis = routes.allocate(1)
    routes.setMessage(gsis[0]!, { address: BigInt(ADDRESS), data: OURS })
    routes.commit()
    const call = closing.own(EventFd.create())
    new KvmInterrupts(kvm, gsis).connect(0, call)
    kvm.close()
    call.signal()
    vmm.raise(vm, OWN.gsi)
    assert.deepEqual(raised(), [OWN.vector, OURS])
  })

  it('takes calls in its own process only, which the error says', async () => {
    const fd = vmm.vmFd(foreign())
    closing.add(() => closeSync(fd))
    const script = `
      import { EventFd, KvmVm } from 'vhost-net'
      KvmVm.fromFd(3).assignIrqfd(EventFd.create(), 5)`
    const args = ['--input-type=module', '--eval', script]
    const child = spawn(process.execPath, args, { cwd: embedDirectory, stdio: ['pipe', 'pipe', 'pipe', fd] })
    const { code, stderr } = await end(child as ChildProcessWithoutNullStreams)
    assert.match(stderr, /KVM_IRQFD on VM fd 3: EIO/)
    assert.match(stderr, /A VM takes calls only in the process that made it/)
    assert.equal(code, 1)
  })

  it('is taken on trust: a descriptor of something else is refused at its first use', () => {
    const other = closing.own(EventFd.create())
    const kvm = closing.own(KvmVm.fromFd(other.detach()))
    assert.throws(
      () => new GsiRoutes(kvm).commit(),
      (error) => error instanceof SystemCallError && error.code === 'ENOTTY' && /not of KVM/.test(error.hint ?? ''),
    )
  })
})
