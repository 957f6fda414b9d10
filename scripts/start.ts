// `npm start`: shows the loop between a guest driver and a tap device working, here if possible, else in the lab.

import path from 'node:path'
import { runChild } from './lab/child.ts'
import { missingHere } from './lab/here.ts'
import { projectRoot } from './lab/project.ts'

const missing = missingHere()
const place = missing.length === 0 ? 'on this machine' : `in the lab, since this machine lacks ${missing.join(' and ')}`
// stdout is the command's alone: with --json it is one document.
process.stderr.write(`start: ${place}\n`)

const loop = [process.execPath, path.join(projectRoot, 'dist/lib/cli/main.js'), 'loop', ...process.argv.slice(2)]
const lab = [process.execPath, path.join(projectRoot, 'dist/scripts/lab/main.js'), '--']
process.exitCode = await runChild(missing.length === 0 ? loop : [...lab, ...loop], process.env)
