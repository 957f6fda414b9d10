// ACPI machine language, as much of it as describes devices (ACPI 6.5 chapter 20), and resources (section 6.4).

const ascii = (text: string): number[] => [...Buffer.from(text, 'ascii')]
const u16 = (value: number): number[] => [value & 0xff, value >>> 8]
const u32 = (value: number): number[] => [...u16(value & 0xffff), ...u16(value >>> 16)]

/** General flags of a range that begins and ends where it says (section 6.4.3.5.1). */
const PRODUCED = 0x0c

/** A length that counts itself (section 20.2.4). */
function withLength(content: readonly number[]): number[] {
  if (content.length + 1 < 0x40) return [content.length + 1, ...content]
  const length = content.length + 2
  if (length < 0x1000) return [0x40 | (length & 0xf), length >>> 4, ...content]
  const longer = content.length + 3
  return [0x80 | (longer & 0xf), (longer >>> 4) & 0xff, longer >>> 12, ...content]
}

export function scope(name: string, ...terms: number[][]): number[] {
  return [0x10, ...withLength([...ascii(name), ...terms.flat()])]
}

/** @param name four characters */
export function device(name: string, ...terms: number[][]): number[] {
  return [0x5b, 0x82, ...withLength([...ascii(name), ...terms.flat()])]
}

/** @param name four characters */
export function named(name: string, object: readonly number[]): number[] {
  return [0x08, ...ascii(name), ...object]
}

export function integer(value: number): number[] {
  return [0x0c, ...u32(value)]
}

export function string(text: string): number[] {
  return [0x0d, ...ascii(text), 0]
}

/** A number of plug and play, three letters and four digits, compressed (section 19.3.4). */
export function eisaId(id: string): number[] {
  const letters = ascii(id.slice(0, 3)).reduce((packed, letter) => (packed << 5) | (letter - 0x40), 0)
  const digits = Number.parseInt(id.slice(3), 16)
  return [0x0c, letters >>> 8, letters & 0xff, digits >>> 8, digits & 0xff]
}

export function packageOf(...elements: number[][]): number[] {
  return [0x12, ...withLength([elements.length, ...elements.flat()])]
}

export function resources(...descriptors: number[][]): number[] {
  const bytes = [...descriptors.flat(), 0x79, 0]
  return [0x11, ...withLength([0x0b, ...u16(bytes.length), ...bytes])]
}

export function ports(first: number, count: number): number[] {
  return [0x47, 0x01, ...u16(first), ...u16(first), 1, count]
}

/** A window that may be written. */
export function memory32(address: number, size: number): number[] {
  return [0x86, ...u16(9), 1, ...u32(address), ...u32(size)]
}

/** The numbers of the buses below a host bridge. */
export function busNumbers(first: number, last: number): number[] {
  return [0x88, ...u16(13), 2, PRODUCED, 0, ...[0, first, last, 0, last - first + 1].flatMap(u16)]
}

/** A window of a host bridge, for what is behind it: not cached, and may be written. */
export function memoryWindow(first: number, size: number): number[] {
  return [0x87, ...u16(23), 0, PRODUCED, 1, ...[0, first, first + size - 1, 0, size].flatMap(u32)]
}

/** A GSI that is this device's own: edge-triggered, active high. */
export function edgeInterrupt(gsi: number): number[] {
  return [0x89, ...u16(6), 0x03, 1, ...u32(gsi)]
}
