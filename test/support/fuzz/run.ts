// A run of the fuzzer, for so long, and what came of it.

import type { CommandCounts } from '../../../lib/net/index.ts'
import { type FailedEpisode, Fuzzer } from './fuzzer.ts'
import type { Kind } from './operations.ts'
import { PLANTS, type PlantName } from './plants.ts'

export interface FuzzOptions {
  seed: number
  seconds: number
  /** Runs this one only. */
  episode?: number | undefined
  /** A bug that it has to find. */
  plant?: PlantName | undefined
  /** Called as each episode begins. */
  begins?: (episode: number) => void
  /** Called now and then. */
  progress?: (report: FuzzReport) => void
}

/** JSON-safe. */
export interface FuzzReport {
  seed: number
  seconds: number
  episodes: number
  over: { mmio: number; pci: number }
  lives: number
  driverOk: number
  moving: number
  revived: number
  packets: number
  operations: Record<Kind | 'total', number>
  commands: Record<string, CommandCounts>
  causes: Record<string, number>
  /** What it should have come to see and did not. */
  missed: string[]
  failed: FailedEpisode | null
  /** What the guest did in the one episode that was asked for. */
  shown?: string[]
}

const PROGRESS_MS = 5000

export async function runFuzzer(options: FuzzOptions): Promise<FuzzReport> {
  const removePlant = options.plant === undefined ? () => undefined : PLANTS[options.plant]()
  try {
    return await run(options)
  } finally {
    removePlant()
  }
}

async function run({ seed, seconds, episode, begins, progress }: FuzzOptions): Promise<FuzzReport> {
  const fuzzer = new Fuzzer(seed)
  const begin = performance.now()
  const passed = (): number => performance.now() - begin
  const report = (failed: FailedEpisode | undefined, missed: string[]): FuzzReport => {
    const { coverage, operations } = fuzzer
    const { episodes, transports: over, lives, driverOk, moving, revived, packets, commands, causes } = coverage
    const counts = { ...operations.counts, total: operations.total }
    const so = { seed, seconds: passed() / 1000, episodes, over, lives, driverOk, moving, revived, packets }
    return { ...so, operations: counts, commands, causes, missed, failed: failed ?? null }
  }
  await fuzzer.open()
  let failed: FailedEpisode | undefined
  let next = PROGRESS_MS
  for (let i = episode ?? 0; failed === undefined && (i === episode || passed() < 1000 * seconds); i++) {
    begins?.(i)
    failed = await fuzzer.episode(i)
    if (i === episode) break
    if (passed() < next) continue
    next = passed() + PROGRESS_MS
    progress?.(report(failed, []))
  }
  const shown = episode === undefined ? {} : { shown: fuzzer.operations.lines }
  if (failed === undefined) await fuzzer.close()
  else fuzzer.abandon()
  return { ...report(failed, failed === undefined && episode === undefined ? fuzzer.coverage.missed : []), ...shown }
}
