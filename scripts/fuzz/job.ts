// What `npm run fuzz` hands to where it runs.

import type { PlantName } from '../../test/support/fuzz/plants.ts'

export interface Job {
  seed: number
  seconds: number
  /** This one only. */
  episode?: number
  plant?: PlantName
  json: boolean
}
