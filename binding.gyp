# The shipped binary, built by node-gyp. native/CMakeLists.txt compiles the same sources with the same warnings.
{
  'targets': [
    {
      'target_name': 'vhost_net',
      'conditions': [
        # Nothing to compile elsewhere, but `npm run build:native` must succeed for those who work on the pure parts.
        ['OS!="linux"', { 'type': 'none' }, {
          'dependencies': ["<!(node -p \"require('node-addon-api').targets\"):node_addon_api_except"],
          # SWALLOW…: what fails because its thread is being terminated is no fatal error of the whole process.
          'defines': ['NAPI_VERSION=9', 'NODE_API_SWALLOW_UNTHROWABLE_EXCEPTIONS'],
          'sources': [
            'native/addon.cc',
            'native/sys/descriptor_table.cc',
            'native/sys/driver_ring.cc',
            'native/sys/driver_ring_receive.cc',
            'native/sys/driver_ring_send.cc',
            'native/sys/ethtool.cc',
            'native/sys/eventfd.cc',
            'native/sys/file.cc',
            'native/sys/guest_bus.cc',
            'native/sys/interrupt_status.cc',
            'native/sys/kvm.cc',
            'native/sys/memory.cc',
            'native/sys/netlink.cc',
            'native/sys/poll_thread.cc',
            'native/sys/quiet_thread.cc',
            'native/sys/ring_loop.cc',
            'native/sys/rtc.cc',
            'native/sys/sampler.cc',
            'native/sys/serial.cc',
            'native/sys/split_ring.cc',
            'native/sys/thread.cc',
            'native/sys/tun.cc',
            'native/sys/vcpu_thread.cc',
            'native/sys/vhost.cc',
            'native/wrap/convert.cc',
            'native/wrap/files.cc',
            'native/wrap/handle.cc',
            'native/wrap/kvm.cc',
            'native/wrap/memory.cc',
            'native/wrap/poller.cc',
            'native/wrap/registers.cc',
            'native/wrap/ring.cc',
            'native/wrap/sampler.cc',
            'native/wrap/tun.cc',
            'native/wrap/vcpu.cc',
            'native/wrap/vhost.cc',
          ],
          # Not an include directory, which <sys/ioctl.h> would find native/sys/ioctl.h in. Relative to build/.
          'cflags': [
            '-iquote../native', '-fvisibility=hidden', '-ffunction-sections', '-fdata-sections', '-fstack-protector-strong',
            '-Wall', '-Wextra', '-Wshadow',
          ],
          # -isystem: the warnings are for our own code.
          'cflags_cc': [
            '-isystem../<!(node -p "require(\'node-addon-api\').include_dir")', '-std=c++20', '-fno-rtti',
          ],
          # libstdc++ of the build machine is newer than that of the machines the binary is made for, and its symbols
          # must not meet those of the copy inside node. Dropping its unused parts drops their need of a newer glibc.
          # libgcc_s stays shared: node brings it, and a static one asks for glibc 2.35 (_dl_find_object).
          'ldflags': [
            '-static-libstdc++', '-Wl,--exclude-libs,ALL', '-Wl,-Bsymbolic', '-Wl,--gc-sections', '-Wl,-z,relro,-z,now',
          ],
          'configurations': {
            'Release': {
              # Undefined first, because some distributions' compilers define another level. It needs optimization.
              'cflags': ['-U_FORTIFY_SOURCE', '-D_FORTIFY_SOURCE=2'],
            },
          },
        }],
      ],
    },
  ],
}
