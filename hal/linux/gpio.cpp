#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "hal/linux/devices.h"
#include "hal/linux/gpiod.h"

namespace slmd::hal {
namespace {

class LinuxGpio final : public Gpio {
  public:
    LinuxGpio(const Root& root, const BoardFile& board)
        : root_(root), board_(board), epoll_(epoll_create1(EPOLL_CLOEXEC)) {}
    ~LinuxGpio() override {
        for (int i = 0; i < max_lines; i++) release(i);
        if (epoll_ >= 0) close(epoll_);
    }

    Result<int> request(const LineConfig& config) override {
        int number = 0;
        while (number < max_lines && lines_[number].line != nullptr) number++;
        if (number == max_lines)
            return Error::make(Code::incorrect_parameters, "GPIO line %s: at most %d lines", config.name, max_lines);
        char chip[64];
        const unsigned offset = TRY(find(line_of(board_, config.name), config.name, chip));
        gpiod::Held held = TRY(gpiod::hold(chip, offset, config));
        if (config.edges) {
            epoll_event e{};
            e.events = EPOLLIN;
            e.data.u32 = static_cast<std::uint32_t>(number);
            if (epoll_ctl(epoll_, EPOLL_CTL_ADD, held.fd, &e) != 0) {
                const Error error = gpiod::refused(config, errno, "");
                gpiod::drop(held);
                return error;
            }
        }
        lines_[number] = held;
        return number;
    }

    void release(int line) override {
        if (line < 0 || line >= max_lines || lines_[line].line == nullptr) return;
        if (lines_[line].fd >= 0) epoll_ctl(epoll_, EPOLL_CTL_DEL, lines_[line].fd, nullptr);
        gpiod::drop(lines_[line]);
        lines_[line] = {};
    }

    Result<bool> get(int line) override {
        const int v = lines_[line].line == nullptr ? (errno = ENODEV, -1) : gpiod::get(lines_[line]);
        if (v < 0) return gone("read", line);
        return v != 0;
    }

    Result<void> set(int line, bool active) override {
        if (lines_[line].line == nullptr || gpiod::set(lines_[line], active) != 0) return gone("set", line);
        return {};
    }

    Result<int> edges(std::span<Edge> out) override {
        int count = 0;
        while (static_cast<std::size_t>(count) < out.size()) {
            epoll_event event;
            const int n = epoll_wait(epoll_, &event, 1, 0);
            if (n <= 0) break;
            const int line = static_cast<int>(event.data.u32);
            Edge& e = out[static_cast<std::size_t>(count)];
            if ((event.events & (EPOLLHUP | EPOLLERR)) != 0 || gpiod::read(lines_[line], e) < 0) {
                const Error error = gone("read edges of", line);
                release(line);  // it would be readable for ever
                return error;
            }
            e.line = line;
            count++;
        }
        return count;
    }

    int fd() const override { return epoll_; }

  private:
    Error gone(const char* what, int line) const {
        return Error::make(Code::device_io, "GPIO: cannot %s line %u: %s", what, lines_[line].offset, strerror(errno));
    }

    // The chip's device and the offset in it. First among the chips that the board file names, then among all.
    Result<unsigned> find(const char* line, const char* asked, char (&chip)[64]) const {
        int offset = -1, seen = 0;
        // "GPIO1_C6", as Rockchip and its boards' makers write it: bank 1, eight lines a letter
        unsigned bank, number;
        char letter, rockchip[24];
        int length = 0;
        if (sscanf(line, "GPIO%2u_%c%1u%n", &bank, &letter, &number, &length) == 3 && line[length] == 0 &&
            letter >= 'A' && letter <= 'D' && number < 8) {
            snprintf(rockchip, sizeof rockchip, "gpio%u:%u", bank, static_cast<unsigned>(letter - 'A') * 8 + number);
            line = rockchip;
        }
        const char* const colon = strrchr(line, ':');
        for (const bool any : {false, true}) {
            if (any && board_.gpio_chip[0] == 0 && colon == nullptr) break;
            root_.list("sys/bus/gpio/devices", [&](const char* name) {
                if (strncmp(name, "gpiochip", 8) != 0 || strlen(name) > 16) return true;
                seen++;
                snprintf(chip, sizeof chip, "/proc/self/fd/%d/dev/%.16s", root_.fd(), name);
                if (colon != nullptr) {  // "CHIP:OFFSET"
                    char label[64];
                    snprintf(label, sizeof label, "%.*s", static_cast<int>(colon - line), line);
                    char* end;
                    const unsigned long n = strtoul(colon + 1, &end, 10);
                    if (end != colon + 1 && *end == 0 && n < 4096 && gpiod::has_label(chip, label))
                        offset = static_cast<int>(n);
                } else if (any || counts(name, chip)) {
                    offset = gpiod::find(chip, line);
                }
                return offset < 0;
            });
            if (offset >= 0) return static_cast<unsigned>(offset);
        }
        return Error::make(Code::not_found,
                           "GPIO line %s: no chip has it (%d looked at); gpioinfo lists the names, and "
                           "slmctl board show the pins",
                           asked, seen);
    }

    // The board file's chip is one whose driver it names by the device tree's string, or by its label.
    bool counts(const char* name, const char* chip) const {
        if (board_.gpio_chip[0] == 0) return true;
        char path[96], text[512];
        snprintf(path, sizeof path, "sys/bus/gpio/devices/%.16s/of_node/compatible", name);
        if (const auto list = root_.read(path, text)) {  // strings that end in zeros
            const std::string_view all = list.value();
            for (std::size_t at = 0; at < all.size(); at += strlen(all.data() + at) + 1)
                if (all.data() + at == std::string_view(board_.gpio_chip)) return true;
        }
        return gpiod::has_label(chip, board_.gpio_chip);
    }

    const Root& root_;
    const BoardFile& board_;
    const int epoll_;
    gpiod::Held lines_[max_lines];
};

}  // namespace

std::unique_ptr<Gpio> open_linux_gpio(const Root& root, const BoardFile& board) {
    return std::make_unique<LinuxGpio>(root, board);
}

Error gpiod::refused(const LineConfig& config, int e, const char* holder) {
    if (e == EBUSY)
        return Error::make(Code::busy, "GPIO line %s: %s%s holds it; gpioinfo shows who has which line", config.name,
                           holder[0] != 0 ? "the program " : "another program", holder);
    if (e == EINVAL || e == EOPNOTSUPP)
        return Error::make(Code::incorrect_parameters, "GPIO line %s: the chip cannot do this%s: %s", config.name,
                           config.pull != Pull::as_is ? " (its pull resistor, perhaps)" : "", strerror(e));
    return Error::make(Code::device_io, "GPIO line %s: %s%s", config.name, strerror(e),
                       e == EACCES || e == EPERM ? "; add the user to the group gpio" : "");
}

}  // namespace slmd::hal
