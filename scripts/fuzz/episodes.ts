// The process that is fuzzed. Arguments: a JSON document of what to do. On fd 3 it says which episode it has begun, and
// on fd 4 what came of it all.

import { writeSync } from 'node:fs'
import { runFuzzer } from '../../test/support/fuzz/run.ts'
import { count } from '../count.ts'
import type { Job } from './job.ts'

const POSITION = 3
const RESULT = 4

const job = JSON.parse(process.argv[2] ?? '') as Job
const position = new BigUint64Array(1)

const report = await runFuzzer({
  ...job,
  begins: (episode) => {
    position[0] = BigInt(episode)
    writeSync(POSITION, position, 0, position.byteLength, 0)
  },
  progress: ({ episodes, operations, seconds }) => {
    const rate = count(Math.round(operations.total / seconds))
    const sofar = `${count(episodes)} episodes, ${count(operations.total)} operations, ${rate} a second`
    process.stderr.write(`fuzz: ${sofar}, ${seconds.toFixed()} s\n`)
  },
})
writeSync(RESULT, JSON.stringify(report))
// What has failed may keep this process from ending by itself.
process.exit(0)
