// What slmd takes away from itself, independent of its unit, so that a fault in it is worth little to whoever finds it.
// Written out here: libseccomp and liblandlock would be two libraries for two system calls.
//
//   restrict_files(): Landlock, before there are threads. From then on nothing can be executed; files can be written,
//       made and removed only below the folders named; TCP ports neither bound nor connected (ABI 4); no signal and no
//       abstract Unix socket reaches another process (ABI 6). Reading is the business of permissions and the unit.
//   restrict_calls(): seccomp, on all threads, when the model is there and every wire is open. Only the calls that a
//       running slmd makes are left; all others fail with EPERM: any new socket, connect, bind, any process or thread,
//       execve, ptrace, mount, bpf, keyctl, memory that is executable. A call of another architecture kills.
//
// There is no switch to turn it off: strace, gdb and perf work from outside as before. A build with AddressSanitizer
// leaves restrict_calls() out, because its leak check stops the world with clone and ptrace.
#pragma once
#include <span>

#include "base/result.h"

namespace slmd::daemon {

struct Writable {
    const char* path;
    // A folder of devices or of attributes (/dev, /sys/class/leds/x): what is there may be opened for writing and
    // driven by ioctl, nothing made or removed. A rule holds for the folder, because the nodes in it come and go when
    // adapters are plugged. Otherwise: files, folders and sockets may be made, written, renamed and removed below it.
    bool devices;
};

// A path that does not exist is left out: nothing can be written there. Logs what is in force, also when the kernel has
// no Landlock. Errors: not_supported with the reason, when the kernel has it and refuses.
Result<void> restrict_files(std::span<const Writable> writable);

// trace: every refused call is logged by its number (debugging; the call is refused all the same). Without, the
// kernel's audit log has it. Errors: not_supported with the reason.
Result<void> restrict_calls(bool trace);

}  // namespace slmd::daemon
