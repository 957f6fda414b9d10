// What configuration space is made of: bytes, and which of their bits a guest may write.

/** Consecutive bytes of configuration space that begin at a multiple of 4: the header, or a capability. */
export interface ConfigPart {
  /** As they are now. */
  readonly bytes: Uint8Array
  /** Which bits of each a guest may write; the others keep what they are. */
  readonly writable: Uint8Array
  /** A guest is about to read bytes from `offset` on, which may be made true now. */
  onRead?(offset: number, width: number): void
  /** A guest has written bytes from `offset` on. */
  onWrite?(offset: number, width: number): void
  /** The bus was reset: the part is to be as it was at first. */
  onReset?(): void
}

/** A capability: `bytes` with its id and next pointer, which the function fills in. */
export interface PciCapability extends ConfigPart {
  /** PCI_CAP_ID_* */
  readonly id: number
}

/** What a read finds where nothing answers. */
export function allOnes(width: number): number {
  return width === 1 ? 0xff : width === 2 ? 0xffff : 0xffff_ffff
}

/** Whether a bus can ask for it at once: within 4 bytes, of which any that belong together may be enabled. */
export function isConfigAccess(offset: number, width: number): boolean {
  return (width === 1 || width === 2 || width === 4) && Number.isInteger(offset) && (offset & 3) + width <= 4
}

export function readBytes(bytes: Uint8Array, offset: number, width: number): number {
  let value = 0
  for (let i = width - 1; i >= 0; i--) value = value * 256 + (bytes[offset + i] ?? 0)
  return value
}

/** Writes those bits that `writable` allows. */
export function writeBytes({ bytes, writable }: ConfigPart, offset: number, width: number, value: number): void {
  for (let i = offset; i < offset + width && i < bytes.length; i++) {
    const allowed = writable[i]!
    bytes[i] = (bytes[i]! & ~allowed) | ((value >>> (8 * (i - offset))) & allowed)
  }
}
