// Counts for people.

/** `1,234,567` */
export const count = (value: number): string => value.toLocaleString('en-US')
