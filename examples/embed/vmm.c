// A VMM of its own, without a line of vhost-net's: a VM of one vCPU, whose exits it hands to JavaScript.

#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <node_api.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

struct vm {
  int kvm, fd, vcpu, memfd;
  void* memory;
  size_t memory_size;
  struct kvm_run* run;
  size_t run_size;
  // Where the guest's last read, of so many bytes, waits for its answer.
  uint8_t* answer;
  uint32_t answer_size;
};

static napi_value fail(napi_env env, const char* what) {
  char message[128];
  snprintf(message, sizeof message, "%s: %s", what, strerror(errno));
  napi_throw_error(env, NULL, message);
  return NULL;
}

static void put_number(napi_env env, napi_value object, const char* name, double number) {
  napi_value value;
  napi_create_double(env, number, &value);
  napi_set_named_property(env, object, name, value);
}

static void release(struct vm* vm) {
  if (vm->run != MAP_FAILED) munmap(vm->run, vm->run_size);
  if (vm->memory != MAP_FAILED) munmap(vm->memory, vm->memory_size);
  int* fds[] = {&vm->vcpu, &vm->fd, &vm->kvm, &vm->memfd};
  for (int i = 0; i < 4; i++) {
    if (*fds[i] >= 0) close(*fds[i]);
    *fds[i] = -1;
  }
  vm->run = vm->memory = MAP_FAILED;
  vm->answer_size = 0;
}

static void finalize(napi_env env, void* data, void* hint) {
  (void)env, (void)hint;
  release(data);
  free(data);
}

// What failed, or NULL.
static const char* set_up(struct vm* vm) {
  if ((vm->kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC)) < 0) return "open /dev/kvm";
  if ((vm->fd = ioctl(vm->kvm, KVM_CREATE_VM, 0)) < 0) return "KVM_CREATE_VM";
  __u64 identity_map = 0xfffbc000;
  if (ioctl(vm->fd, KVM_SET_IDENTITY_MAP_ADDR, &identity_map) < 0) return "KVM_SET_IDENTITY_MAP_ADDR";
  if (ioctl(vm->fd, KVM_SET_TSS_ADDR, 0xfffbd000) < 0) return "KVM_SET_TSS_ADDR";
  if (ioctl(vm->fd, KVM_CREATE_IRQCHIP, 0) < 0) return "KVM_CREATE_IRQCHIP";

  if ((vm->memfd = memfd_create("guest", MFD_CLOEXEC)) < 0) return "memfd_create";
  if (ftruncate(vm->memfd, vm->memory_size) < 0) return "ftruncate";
  vm->memory = mmap(NULL, vm->memory_size, PROT_READ | PROT_WRITE, MAP_SHARED, vm->memfd, 0);
  if (vm->memory == MAP_FAILED) return "mmap of the memory";
  struct kvm_userspace_memory_region slot = {.memory_size = vm->memory_size, .userspace_addr = (uintptr_t)vm->memory};
  if (ioctl(vm->fd, KVM_SET_USER_MEMORY_REGION, &slot) < 0) return "KVM_SET_USER_MEMORY_REGION";

  if ((vm->vcpu = ioctl(vm->fd, KVM_CREATE_VCPU, 0)) < 0) return "KVM_CREATE_VCPU";
  vm->run_size = ioctl(vm->kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
  vm->run = mmap(NULL, vm->run_size, PROT_READ | PROT_WRITE, MAP_SHARED, vm->vcpu, 0);
  return vm->run == MAP_FAILED ? "mmap of the vCPU" : NULL;
}

// Protected mode without paging, every segment all 4 GiB.
static const char* enter(struct vm* vm, uint32_t entry) {
  struct kvm_sregs sregs;
  if (ioctl(vm->vcpu, KVM_GET_SREGS, &sregs) < 0) return "KVM_GET_SREGS";
  struct kvm_segment code = {.limit = ~0u, .selector = 8, .type = 11, .present = 1, .db = 1, .s = 1, .g = 1};
  struct kvm_segment data = code;
  data.selector = 16;
  data.type = 3;
  sregs.cs = code;
  sregs.ds = sregs.es = sregs.fs = sregs.gs = sregs.ss = data;
  sregs.cr0 = 0x11;
  if (ioctl(vm->vcpu, KVM_SET_SREGS, &sregs) < 0) return "KVM_SET_SREGS";
  struct kvm_regs regs = {.rip = entry, .rflags = 2};
  return ioctl(vm->vcpu, KVM_SET_REGS, &regs) < 0 ? "KVM_SET_REGS" : NULL;
}

// create(memorySize, entry)
static napi_value create(napi_env env, napi_callback_info info) {
  size_t argc = 2;
  napi_value argv[2], result;
  uint32_t size = 0, entry = 0;
  napi_get_cb_info(env, info, &argc, argv, NULL, NULL);
  napi_get_value_uint32(env, argv[0], &size);
  napi_get_value_uint32(env, argv[1], &entry);
  struct vm* vm = malloc(sizeof *vm);
  *vm = (struct vm){.kvm = -1, .fd = -1, .vcpu = -1, .memfd = -1, .memory = MAP_FAILED, .run = MAP_FAILED};
  vm->memory_size = size;
  napi_create_external(env, vm, finalize, NULL, &result);
  const char* failed = set_up(vm);
  if (failed == NULL) failed = enter(vm, entry);
  if (failed == NULL) return result;
  fail(env, failed);
  release(vm);
  return NULL;
}

static struct vm* vm_of(napi_env env, napi_callback_info info, size_t argc, napi_value* argv) {
  struct vm* vm = NULL;
  napi_get_cb_info(env, info, &argc, argv, NULL, NULL);
  napi_get_value_external(env, argv[0], (void**)&vm);
  return vm;
}

static napi_value duplicate(napi_env env, int fd) {
  napi_value result;
  int copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);
  if (copy < 0) return fail(env, "F_DUPFD_CLOEXEC");
  napi_create_int32(env, copy, &result);
  return result;
}

// vmFd(vm) and memoryFd(vm): copies, for whoever shares the VM or its memory.
static napi_value vm_fd(napi_env env, napi_callback_info info) {
  napi_value argv[1];
  return duplicate(env, vm_of(env, info, 1, argv)->fd);
}

static napi_value memory_fd(napi_env env, napi_callback_info info) {
  napi_value argv[1];
  return duplicate(env, vm_of(env, info, 1, argv)->memfd);
}

// messageRoute(gsi, vector): an entry of the VM's interrupt routing table, a message to the local APIC of vCPU 0.
static napi_value message_route(napi_env env, napi_callback_info info) {
  size_t argc = 2;
  napi_value argv[2], result;
  struct kvm_irq_routing_entry entry = {.type = KVM_IRQ_ROUTING_MSI, .u.msi.address_lo = 0xfee00000};
  napi_get_cb_info(env, info, &argc, argv, NULL, NULL);
  napi_get_value_uint32(env, argv[0], &entry.gsi);
  napi_get_value_uint32(env, argv[1], &entry.u.msi.data);
  napi_create_buffer_copy(env, sizeof entry, &entry, NULL, &result);
  return result;
}

// raise(vm, gsi): an edge.
static napi_value raise_gsi(napi_env env, napi_callback_info info) {
  napi_value argv[2];
  struct vm* vm = vm_of(env, info, 2, argv);
  struct kvm_irq_level line = {.level = 1};
  napi_get_value_uint32(env, argv[1], &line.irq);
  if (ioctl(vm->fd, KVM_IRQ_LINE, &line) < 0) return fail(env, "KVM_IRQ_LINE");
  line.level = 0;
  if (ioctl(vm->fd, KVM_IRQ_LINE, &line) < 0) return fail(env, "KVM_IRQ_LINE");
  return NULL;
}

// run(vm, data): enters the guest, with `data` as what it read if it was reading, and returns its next exit. What it
// writes is in `data` then, 8 bytes.
static napi_value run(napi_env env, napi_callback_info info) {
  napi_value argv[2], result, reason;
  uint8_t* data;
  struct vm* vm = vm_of(env, info, 2, argv);
  napi_get_buffer_info(env, argv[1], (void**)&data, NULL);
  if (vm->answer_size > 0) memcpy(vm->answer, data, vm->answer_size);
  vm->answer_size = 0;
  // A signal that Node.js handles is not what this VMM waits for.
  while (ioctl(vm->vcpu, KVM_RUN, 0) < 0) {
    if (errno != EINTR) return fail(env, "KVM_RUN");
  }
  napi_create_object(env, &result);
  const char* name = "other";
  uint8_t* bytes = NULL;
  uint32_t size = 0;
  int write = 0;
  if (vm->run->exit_reason == KVM_EXIT_MMIO) {
    name = "mmio";
    bytes = vm->run->mmio.data;
    size = vm->run->mmio.len;
    write = vm->run->mmio.is_write;
    put_number(env, result, "address", vm->run->mmio.phys_addr);
  } else if (vm->run->exit_reason == KVM_EXIT_IO && vm->run->io.count == 1) {
    name = "io";
    bytes = (uint8_t*)vm->run + vm->run->io.data_offset;
    size = vm->run->io.size;
    write = vm->run->io.direction == KVM_EXIT_IO_OUT;
    put_number(env, result, "address", vm->run->io.port);
  } else if (vm->run->exit_reason == KVM_EXIT_SHUTDOWN) {
    name = "shutdown";
  }
  napi_create_string_utf8(env, name, NAPI_AUTO_LENGTH, &reason);
  napi_set_named_property(env, result, "reason", reason);
  put_number(env, result, "number", vm->run->exit_reason);
  put_number(env, result, "width", size);
  napi_get_boolean(env, write, &reason);
  napi_set_named_property(env, result, "write", reason);
  if (write) {
    memcpy(data, bytes, size);
  } else {
    vm->answer = bytes;
    vm->answer_size = size;
  }
  return result;
}

// close(vm): ends it; what others have of it, by descriptors of their own, they keep. Idempotent.
static napi_value close_vm(napi_env env, napi_callback_info info) {
  napi_value argv[1];
  release(vm_of(env, info, 1, argv));
  return NULL;
}

NAPI_MODULE_INIT() {
  const struct {
    const char* name;
    napi_callback callback;
  } functions[] = {
      {"create", create},   {"vmFd", vm_fd}, {"memoryFd", memory_fd}, {"messageRoute", message_route},
      {"raise", raise_gsi}, {"run", run},    {"close", close_vm},
  };
  for (size_t i = 0; i < sizeof functions / sizeof *functions; i++) {
    napi_value function;
    napi_create_function(env, functions[i].name, NAPI_AUTO_LENGTH, functions[i].callback, NULL, &function);
    napi_set_named_property(env, exports, functions[i].name, function);
  }
  return exports;
}
