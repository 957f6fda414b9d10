// Faults in the driver room.

import type { Fault } from './fault.ts'

export const DRIVER: readonly Fault[] = [
  {
    name: 'the used ring has no room for all its entries',
    file: 'lib/driver/layout.ts',
    line: 'const used = take(sizes.used, PAGE_SIZE)',
    faulty: 'const used = take(sizes.avail, PAGE_SIZE)',
    test: 'unit/driver-layout',
    title: 'the layout of a driver gives every part of every queue memory of its own, within what it says it needs',
  },
  {
    name: 'a ring counts as drained while its last chain is on its way',
    file: 'lib/driver/tx-queue.ts',
    line: 'for (let inFlight = this.inFlight; inFlight > 0; inFlight = this.inFlight) {',
    faulty: 'for (let inFlight = this.inFlight; inFlight > 1; inFlight = this.inFlight) {',
    test: 'unit/driver-lying-device',
    title: 'the ring loop of the driver refuses a device that lies to who waits for it',
  },
  {
    name: 'a driver does not wait for what it sent',
    file: 'lib/driver/driver.ts',
    line: 'await Promise.all(this.pairs.map(({ tx }) => tx.drained(signal)))',
    faulty: 'void Promise.all(this.pairs.map(({ tx }) => tx.drained(signal)))',
    test: 'kernel/drain',
    title: 'closing a driver waits for a device that is started only then',
  },
  {
    name: 'calls are not counted',
    file: 'lib/driver/queue.ts',
    line: 'this.#calls += calls',
    faulty: 'this.#calls += 0',
    test: 'unit/driver-calls',
    title: 'the ring loop of the driver asking for calls wakes who waits at the call, and counts it',
  },
  {
    name: 'one who gives up waiting takes all others along',
    file: 'lib/driver/queue.ts',
    line: 'this.#waiters = this.#waiters.filter((other) => other !== waiter)',
    faulty: 'this.#waiters = this.#waiters.filter((other) => other.delay !== waiter.delay)',
    test: 'kernel/drain',
    title: 'waiting for a ring with EVENT_IDX goes on for one where another gave up',
  },
  {
    name: 'who waits for a packet is not told that another took it',
    file: 'lib/driver/rx-queue.ts',
    line: 'if (packets > 0 && this.awaited) this.taken()',
    faulty: 'if (packets > 0 && !this.awaited) this.taken()',
    test: 'kernel/drain',
    title: 'waiting for a ring with EVENT_IDX forgets nobody where another caller takes the packets first',
  },
]
