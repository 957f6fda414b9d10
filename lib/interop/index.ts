// The interop room's door: other people's words for our options.

export { nearest } from '../nearest.ts'
export { parseMemory, parseNics, parseSmp, type QemuNic } from './qemu.ts'
