// The interop room's door: other people's words for our options.

export { nearest } from '../nearest.ts'
export { formatPlug, type PlugWords, parsePlug } from './plug-words.ts'
export { type NicSurroundings, parseMemory, parseNics, parseSmp, type QemuNic } from './qemu.ts'
