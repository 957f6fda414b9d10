// Numbers of traffic control: queueing disciplines, their classes and filters, over rtnetlink. UAPI names, Linux 6.18.

/** Attributes after `struct tcmsg`: `linux/rtnetlink.h`. */
export const TCA = {
  TCA_KIND: 1,
  TCA_OPTIONS: 2,
} as const

/** Where a queueing discipline is: `linux/pkt_sched.h`. */
export const TC_H = {
  TC_H_ROOT: 0xffff_ffff,
  TC_H_INGRESS: 0xffff_fff1,
} as const

/** `linklayer` of `struct tc_ratespec`: `linux/pkt_sched.h`. */
export const TC_LINKLAYER_ETHERNET = 1

/** Nanoseconds of a tick, in which bursts are given: PSCHED_SHIFT of `net/pkt_sched.h`, as /proc/net/psched tells. */
export const PSCHED_TICK_NS = 64

/** Attributes in TCA_OPTIONS of kind "htb", and the version of its structures: `linux/pkt_sched.h`. */
export const TCA_HTB = {
  TCA_HTB_PARMS: 1,
  TCA_HTB_INIT: 2,
  TCA_HTB_RATE64: 6,
  TCA_HTB_CEIL64: 7,
} as const
export const HTB_VERSION = 3

/** Attributes in TCA_OPTIONS of a filter of kind "u32": `linux/pkt_cls.h`. */
export const TCA_U32 = {
  TCA_U32_CLASSID: 1,
  TCA_U32_SEL: 5,
  TCA_U32_POLICE: 6,
  TCA_U32_ACT: 7,
} as const
export const TC_U32_TERMINAL = 1

/** Attributes of an action: `linux/pkt_cls.h`. */
export const TCA_ACT = {
  TCA_ACT_KIND: 1,
  TCA_ACT_OPTIONS: 2,
} as const

/** Attributes of the action "police", and what it does with what is too much: `linux/pkt_cls.h`. */
export const TCA_POLICE = {
  TCA_POLICE_TBF: 1,
  TCA_POLICE_RATE: 2,
  TCA_POLICE_RATE64: 8,
} as const
export const TC_ACT_SHOT = 2

/** Of any protocol, as a filter has it: `linux/if_ether.h`. */
export const ETH_P_ALL = 3
