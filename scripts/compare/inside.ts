// Measures where it runs. Arguments: the kernel of the guests, and the file for the result.

import { writeFileSync } from 'node:fs'
import { isKernelName } from '../lab/kernels.ts'
import { describeMachines, type Measurement, measureOurs, measureQemu } from './measure.ts'

const [kernel = '', file = ''] = process.argv.slice(2)
if (!isKernelName(kernel)) throw new Error(`there is no kernel ${kernel}`)
const measurement: Measurement = {
  ...(await describeMachines(kernel)),
  ours: await measureOurs(kernel),
  theirs: await measureQemu(kernel),
}
writeFileSync(file, JSON.stringify(measurement))
