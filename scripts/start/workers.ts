// A pair's worker as the host's scheduler has it.

import { readFileSync } from 'node:fs'
import { VhostWorker } from '../../lib/index.ts'
import type { WorkerPicture } from './measured.ts'

/** Its name is vhost-PID, after the thread that became the owner of its vhost-net fd. */
export function pictureWorker(tid: number): WorkerPicture {
  const name = readFileSync(`/proc/${tid}/comm`, 'utf8').trim()
  return { name, tid, cpuMs: new VhostWorker(tid).cpuTime() / 1e6 }
}
