// The guest: asks over its NIC who has 192.0.2.1, sleeps until it is told, and says so. A minimal driver of a virtio
// network device (virtio 1.3, sections 4.2 and 5.1) on a processor with nothing but a local APIC.

#include <stdint.h>

// What the VMM put where.
enum { NIC = 0xd0000000, NIC_VECTOR = 0x40, VMM_VECTOR = 0x30 };
enum { PORT_CONSOLE = 0xe9, PORT_END = 0xf4, PORT_ASK_VMM = 0xf5 };

asm(".section .entry, \"ax\"\n"
    "mov $stack_end, %esp\n"
    "call guest\n"
    ".bss\n"
    ".skip 8192\n"
    "stack_end:\n"
    ".text\n");

// Ports and memory

static void out8(uint16_t port, uint8_t value) { asm volatile("outb %0, %1" : : "a"(value), "Nd"(port)); }

static uint32_t read32(uint32_t address) { return *(volatile uint32_t*)address; }

static void write32(uint32_t address, uint32_t value) { *(volatile uint32_t*)address = value; }

static void barrier(void) { __sync_synchronize(); }

static void copy(void* to, const void* from, uint32_t size) {
  for (uint32_t i = 0; i < size; i++) ((uint8_t*)to)[i] = ((const uint8_t*)from)[i];
}

// Words

static void say(const char* text) {
  while (*text) out8(PORT_CONSOLE, *text++);
}

static void say_number(uint32_t number) {
  if (number >= 10) say_number(number / 10);
  out8(PORT_CONSOLE, '0' + number % 10);
}

static void say_mac(const uint8_t* mac) {
  for (int i = 0; i < 6; i++) {
    if (i > 0) say(":");
    out8(PORT_CONSOLE, "0123456789abcdef"[mac[i] >> 4]);
    out8(PORT_CONSOLE, "0123456789abcdef"[mac[i] & 15]);
  }
}

static void __attribute__((noreturn)) end(uint8_t code) {
  for (;;) out8(PORT_END, code);
}

static void __attribute__((noreturn)) give_up(const char* why) {
  say(why);
  say("\n");
  end(1);
}

// Interrupts (Intel SDM volume 3, chapters 6 and 12)

enum {
  APIC = 0xfee00000,
  APIC_EOI = 0xb0,
  APIC_SPURIOUS = 0xf0,
  APIC_TIMER = 0x320,
  APIC_COUNT = 0x380,
  APIC_DIVIDE = 0x3e0
};
enum { TIMER_VECTOR = 0x20, SPURIOUS_VECTOR = 0x2f, VECTORS = 0x41 };

struct frame;

static volatile uint32_t nic_interrupts, vmm_interrupts, late;
static uint32_t kicks;

__attribute__((interrupt)) static void on_nic(struct frame* frame) {
  (void)frame;
  write32(NIC + 0x64, read32(NIC + 0x60));  // InterruptACK, InterruptStatus
  nic_interrupts++;
  write32(APIC + APIC_EOI, 0);
}

__attribute__((interrupt)) static void on_vmm(struct frame* frame) {
  (void)frame;
  vmm_interrupts++;
  write32(APIC + APIC_EOI, 0);
}

__attribute__((interrupt)) static void on_timer(struct frame* frame) {
  (void)frame;
  late = 1;
  write32(APIC + APIC_EOI, 0);
}

__attribute__((interrupt)) static void on_spurious(struct frame* frame) { (void)frame; }

struct table {
  uint16_t limit;
  void* base;
} __attribute__((packed));

static uint64_t gdt[] = {0, 0x00cf9b000000ffff, 0x00cf93000000ffff};
static uint64_t idt[VECTORS];

static void set_gate(int vector, void (*handler)(struct frame*)) {
  uint32_t address = (uint32_t)handler;
  idt[vector] = (uint64_t)(address >> 16) << 48 | 0x8e0000080000 | (address & 0xffff);
}

static void set_up_interrupts(void) {
  struct table gdtr = {sizeof gdt - 1, gdt}, idtr = {sizeof idt - 1, idt};
  asm volatile("lgdt %0" : : "m"(gdtr), "m"(gdt));
  asm volatile("lidt %0" : : "m"(idtr));
  set_gate(NIC_VECTOR, on_nic);
  set_gate(VMM_VECTOR, on_vmm);
  set_gate(TIMER_VECTOR, on_timer);
  set_gate(SPURIOUS_VECTOR, on_spurious);
  write32(APIC + APIC_SPURIOUS, 0x100 | SPURIOUS_VECTOR);
  // KVM's runs at 1 GHz: 5 seconds from now, once.
  write32(APIC + APIC_DIVIDE, 0xa);  // by 128
  write32(APIC + APIC_TIMER, TIMER_VECTOR);
  write32(APIC + APIC_COUNT, 5 * (1000000000 / 128));
}

// With interrupts off before and after: none comes between a look at what it changes and the sleep.
static void sleep(void) { asm volatile("sti; hlt; cli" : : : "memory"); }

// The split virtqueue (section 2.7)

enum { SIZE = 4, DESC_F_WRITE = 2, USED_F_NO_NOTIFY = 1 };

struct queue {
  struct {
    uint64_t addr;
    uint32_t len;
    uint16_t flags, next;
  } desc[SIZE] __attribute__((aligned(16)));
  struct {
    uint16_t flags, idx, ring[SIZE], used_event;
  } avail;
  volatile struct {
    uint16_t flags, idx;
    struct {
      uint32_t id, len;
    } ring[SIZE];
    uint16_t avail_event;
  } used __attribute__((aligned(4)));
  uint16_t index, seen;
};

static struct queue rx = {.index = 0}, tx = {.index = 1};

// Section 5.1.6: without offloads all of it is 0 in what is sent.
struct packet {
  uint8_t flags, gso_type;
  uint16_t hdr_len, gso_size, csum_start, csum_offset, num_buffers;
  struct arp {
    uint8_t destination[6], source[6], ethertype[2];
    uint8_t hardware[2], protocol[2], sizes[2], operation[2];
    uint8_t sender_mac[6], sender_ip[4], target_mac[6], target_ip[4];
  } arp;
  uint8_t rest[2048];
};

static struct packet received[SIZE], sent;

// Section 3.1.1, step 7.
static void set_up_queue(struct queue* queue) {
  write32(NIC + 0x30, queue->index);  // QueueSel
  if (read32(NIC + 0x34) < SIZE) give_up("a queue is too small");
  write32(NIC + 0x38, SIZE);                     // QueueNum
  write32(NIC + 0x80, (uint32_t)queue->desc);    // QueueDescLow
  write32(NIC + 0x90, (uint32_t)&queue->avail);  // QueueDriverLow
  write32(NIC + 0xa0, (uint32_t)&queue->used);   // QueueDeviceLow
  write32(NIC + 0x44, 1);                        // QueueReady
}

static void make_available(struct queue* queue, uint16_t id, void* buffer, uint32_t len, uint16_t flags) {
  queue->desc[id].addr = (uint32_t)buffer;
  queue->desc[id].len = len;
  queue->desc[id].flags = flags;
  queue->avail.ring[queue->avail.idx % SIZE] = id;
  barrier();
  queue->avail.idx++;
  barrier();
  if (queue->used.flags & USED_F_NO_NOTIFY) return;
  write32(NIC + 0x50, queue->index);  // QueueNotify
  kicks++;
}

// The device (sections 3.1.1 and 5.1.5)

enum { ACKNOWLEDGE = 1, DRIVER = 2, DRIVER_OK = 4, FEATURES_OK = 8, NEEDS_RESET = 64 };
enum { F_MAC = 1 << 5, F_MRG_RXBUF = 1 << 15, F_VERSION_1 = 1 << 0 };

static uint32_t offered(uint32_t word) {
  write32(NIC + 0x14, word);  // DeviceFeaturesSel
  return read32(NIC + 0x10);
}

static void accept(uint32_t word, uint32_t features) {
  write32(NIC + 0x24, word);  // DriverFeaturesSel
  write32(NIC + 0x20, features);
}

static void set_up_device(uint8_t* mac) {
  if (read32(NIC) != 0x74726976 || read32(NIC + 4) != 2 || read32(NIC + 8) != 1) give_up("there is no NIC");
  uint32_t status = 0x70;
  write32(NIC + status, 0);
  while (read32(NIC + status) != 0) continue;
  write32(NIC + status, ACKNOWLEDGE | DRIVER);
  if (offered(0) != (offered(0) | F_MAC | F_MRG_RXBUF) || (offered(1) & F_VERSION_1) == 0)
    give_up("the NIC lacks a feature");
  accept(0, F_MAC | F_MRG_RXBUF);
  accept(1, F_VERSION_1);
  write32(NIC + status, ACKNOWLEDGE | DRIVER | FEATURES_OK);
  if ((read32(NIC + status) & FEATURES_OK) == 0) give_up("the NIC takes other features");
  for (int i = 0; i < 6; i++) mac[i] = *(volatile uint8_t*)(NIC + 0x100 + i);
  set_up_queue(&rx);
  set_up_queue(&tx);
  write32(NIC + status, ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK);
  if (read32(NIC + status) & NEEDS_RESET) give_up("the NIC does not start");
  for (uint16_t id = 0; id < SIZE; id++) make_available(&rx, id, &received[id], sizeof received[id], DESC_F_WRITE);
}

// The conversation

static const uint8_t own_ip[] = {192, 0, 2, 2}, host_ip[] = {192, 0, 2, 1};

static void ask(const uint8_t* mac) {
  struct arp* arp = &sent.arp;
  for (int i = 0; i < 6; i++) arp->destination[i] = 0xff;
  copy(arp->source, mac, 6);
  // Ethertype ARP; Ethernet, IPv4, their sizes, request.
  copy(arp->ethertype, "\x08\x06\x00\x01\x08\x00\x06\x04\x00\x01", 10);
  copy(arp->sender_mac, mac, 6);
  copy(arp->sender_ip, own_ip, 4);
  copy(arp->target_ip, host_ip, 4);
  make_available(&tx, 0, &sent, 12 + sizeof *arp, 0);
}

static int is_answer(const struct arp* arp, const uint8_t* mac) {
  for (int i = 0; i < 6; i++) {
    if (arp->destination[i] != mac[i]) return 0;
  }
  for (int i = 0; i < 4; i++) {
    if (arp->sender_ip[i] != host_ip[i]) return 0;
  }
  return arp->ethertype[0] == 8 && arp->ethertype[1] == 6 && arp->operation[1] == 2;
}

// Each used buffer has an interrupt, which waits for the sleep. What else the network says goes back into the ring.
static const struct arp* await_answer(const uint8_t* mac) {
  for (;;) {
    sleep();
    if (late) give_up("nobody answered for 5 seconds");
    while (rx.seen != rx.used.idx) {
      barrier();
      uint16_t id = rx.used.ring[rx.seen++ % SIZE].id;
      if (is_answer(&received[id].arp, mac)) return &received[id].arp;
      make_available(&rx, id, &received[id], sizeof received[id], DESC_F_WRITE);
    }
  }
}

void guest(void) {
  uint8_t mac[6];
  set_up_interrupts();
  set_up_device(mac);
  say("I have ");
  say_mac(mac);
  say(". Who has 192.0.2.1?\n");
  ask(mac);
  const struct arp* answer = await_answer(mac);
  say("192.0.2.1 is at ");
  say_mac(answer->sender_mac);
  say(". Kicks: ");
  say_number(kicks);
  say(", interrupts: ");
  say_number(nic_interrupts);
  say(".\n");
  // The VMM's own interrupt is none of the NIC's business, and still there.
  out8(PORT_ASK_VMM, 0);
  while (!vmm_interrupts) {
    if (late) give_up("the VMM did not interrupt");
    sleep();
  }
  say("The VMM interrupted me, too.\n");
  end(0);
}
