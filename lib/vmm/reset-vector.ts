// What a PC has at the end of its BIOS: where Linux jumps to, in real mode, when it knows no other way to reset. On a machine
// with hardware-reduced ACPI and without EFI that is the first way it tries (arch/x86/kernel/reboot.c: reboot_init).

import type { GuestMemory } from '../memory/index.ts'
import { MEMORY_MAP } from './memory-map.ts'

/** Has whoever comes there reset the machine by its reset register. */
export function writeResetVector(
  memory: GuestMemory,
  { reset, resetValue }: { reset: number; resetValue: number },
): void {
  // mov dx, reset; mov al, resetValue; out dx, al; hlt; and to the hlt again, should an interrupt end it.
  const code = [0xba, reset & 0xff, reset >> 8, 0xb0, resetValue, 0xee, 0xf4, 0xeb, 0xfd]
  memory.write(MEMORY_MAP.resetVector, Uint8Array.from(code))
}
