/* What a pseudo-terminal lacks as QEMU's end of a serial port: modem lines. Loaded into QEMU, it answers what QEMU asks
 * of them, and the UART shows to the board: DSR and CD are there, and so is CTS unless the file $SLMD_CABLE_CUT exists.
 */
#define _GNU_SOURCE
#include <stdarg.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

int ioctl(int fd, unsigned long request, ...) {
    va_list arguments;
    va_start(arguments, request);
    void* argument = va_arg(arguments, void*);
    va_end(arguments);
    if (request == TIOCMGET) {
        *(int*)argument = TIOCM_DSR | TIOCM_CD | (access(getenv("SLMD_CABLE_CUT"), F_OK) ? TIOCM_CTS : 0);
        return 0;
    }
    if (request == TIOCMSET) return 0;
    return (int)syscall(SYS_ioctl, fd, request, argument);
}
