// The Internet checksum (RFC 1071).

/**
 * The one's complement sum of big-endian 16-bit words, an odd last byte being followed by a zero; folded to 16 bits, not
 * complemented.
 * @param sum what to add it to. Default 0.
 */
export function onesComplementSum(bytes: Uint8Array, from: number, to: number, sum = 0): number {
  // 2⁵³ is far beyond what even 2³² words come to.
  let total = sum
  const even = to - ((to - from) & 1)
  for (let at = from; at < even; at += 2) total += (bytes[at] as number) * 256 + (bytes[at + 1] as number)
  if (even < to) total += (bytes[even] as number) * 256
  return fold(total)
}

/** Adds the carries back until the sum has 16 bits. */
export function fold(sum: number): number {
  let folded = sum
  while (folded > 0xffff) folded = (folded % 0x10000) + Math.floor(folded / 0x10000)
  return folded
}
