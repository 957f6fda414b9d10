# The VMM, an addon in C, and its guest, a program for no operating system.
{
  'targets': [
    {
      'target_name': 'vmm',
      'sources': ['vmm.c'],
      'defines': ['_GNU_SOURCE', 'NAPI_VERSION=8'],
      'cflags': ['-Wall', '-Wextra'],
    },
    {
      'target_name': 'guest',
      'type': 'none',
      'actions': [
        {
          'action_name': 'guest',
          'inputs': ['guest.c', 'guest.ld'],
          'outputs': ['<(PRODUCT_DIR)/guest.bin'],
          'action': [
            'gcc', '-m32', '-march=i686', '-mgeneral-regs-only', '-Os', '-Wall', '-Wextra',
            '-ffreestanding', '-fno-pic', '-fno-stack-protector', '-fno-asynchronous-unwind-tables', '-fcf-protection=none',
            '-nostdlib', '-static', '-Wl,-T,guest.ld', '-Wl,--build-id=none', '-Wl,--oformat=binary',
            '-o', '<@(_outputs)', 'guest.c',
          ],
        },
      ],
    },
  ],
}
