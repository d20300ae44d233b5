// What both halves of SlotFolder need: slmd's, which chooses, and slmctl's, which installs.
#pragma once
#include <fcntl.h>
#include <unistd.h>

#include <cstdio>

#include "image/slots.h"

namespace slmd::image {

// The slot whose model waits for its first start; -1: none.
inline int staged(const Slots& slots) {
    for (int i = 0; i < slot_count; i++)
        if (slots.slot[i].state == SlotState::staged) return i;
    return -1;
}

// One at a time may change the record, and one at a time may install, which takes long. Where nothing can be written
// nothing needs a lock.
class SlotFolder::Lock {
  public:
    enum Of : int { record = 0, install = 1 };
    Lock(const SlotFolder& folder, Of what) {
        char path[512];
        std::snprintf(path, sizeof path, "%s/lock", folder.folder_);
        fd_ = ::open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
        struct flock l {};
        l.l_type = F_WRLCK;
        l.l_whence = SEEK_SET;
        l.l_start = what;
        l.l_len = 1;
        taken_ = fd_ >= 0 && fcntl(fd_, what == install ? F_OFD_SETLK : F_OFD_SETLKW, &l) == 0;
    }
    Lock(const Lock&) = delete;
    Lock& operator=(const Lock&) = delete;
    ~Lock() {
        if (fd_ >= 0) close(fd_);
    }
    bool taken() const { return taken_; }

  private:
    int fd_;
    bool taken_;
};

}  // namespace slmd::image
