// slmd as a service: what it keeps over a restart.
#include <sys/mman.h>
#include <sys/stat.h>

#include <regex>

#include "image/format.h"
#include "systemd.h"

using namespace slmd::testing;

namespace {

constexpr const char* france = "What is the capital of France?";

// A copy of the tiny model's image that a test may replace.
std::string own_image(const std::string& name) {
    const std::string path = folder() + "/" + name;
    std::filesystem::copy_file(tiny_image(), path, std::filesystem::copy_options::overwrite_existing);
    return path;
}

void kill_hard(Daemon& d) {
    kill(d.pid(), SIGKILL);
    EXPECT_EQ(d.wait(), 128 + SIGKILL);
}

// What a start read of a file, as strace saw it.
struct Read {
    std::uint64_t bytes = 0;
    int maps = 0;
};
Read reads_of(const std::string& trace, const std::string& file) {
    Read r;
    std::string all;  // a file a thread, so that no call is split over two lines
    for (const auto& e : std::filesystem::directory_iterator(folder()))
        if (e.path().string().rfind(trace + ".", 0) == 0) all += slurp(e.path());
    std::istringstream lines(all);
    const std::regex read("(?:read|pread64|readv|preadv)\\(\\d+<" + file + ">.* = (\\d+)$");
    for (std::string l; std::getline(lines, l);) {
        std::smatch m;
        if (std::regex_search(l, m, read)) r.bytes += std::stoull(m[1]);
        r.maps += l.find("mmap(") != std::string::npos && l.find("<" + file + ">") != std::string::npos;
    }
    return r;
}

// Like an image of the store, but as we like it.
int memory_of(int like, bool sealed, std::size_t size) {
    const int fd = memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    std::string bytes(size, 0);
    EXPECT_EQ(pread(like, bytes.data(), size, 0), static_cast<ssize_t>(size));
    EXPECT_EQ(write(fd, bytes.data(), size), static_cast<ssize_t>(size));
    if (sealed) {
        EXPECT_EQ(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL), 0);
    }
    return fd;
}

}  // namespace

TEST(Kept, after_a_kill_no_frame_of_the_image_is_read) {
    if (shell("strace -o /dev/null true").code != 0) GTEST_SKIP() << "strace is not installed or not allowed here";
    Systemd systemd;
    const std::string image = own_image("kept.slm"), draft = own_image("kept-draft.slm");
    const std::uint64_t size = std::filesystem::file_size(image);
    std::string before;
    for (const bool first : {true, false}) {
        const std::string trace = folder() + (first ? "/trace-first" : "/trace-second");
        Daemon d({.arguments = {"--draft-model", draft},
                  .environment = systemd.environment(),
                  .before = {"strace", "-D", "-ff", "-y", "--quiet=all", "-e",
                             "trace=read,pread64,readv,preadv,mmap,mremap,copy_file_range,sendfile", "-o", trace},
                  .image = image,
                  .handed_over = systemd.stored()});
        for (const std::string& file : {image, draft}) {
            const Read r = reads_of(trace, file);
            if (first) {
                EXPECT_GE(r.bytes, size);
            } else {
                EXPECT_GT(r.bytes, 0u) << "strace saw nothing: this test cannot fail";
                EXPECT_LT(r.bytes, 1000u) << "more than the file's header was read";
            }
            EXPECT_EQ(r.maps, 0);
        }
        const std::string log = slurp(d.log);
        EXPECT_EQ(log.find("reading the file") != std::string::npos, first) << log;
        EXPECT_EQ(log.find("kept in memory over the restart") != std::string::npos, !first) << log;
        const std::string answer = d.answer(france);
        EXPECT_NE(answer.find("Paris"), std::string::npos);
        if (first) before = answer;
        EXPECT_EQ(answer, before);
        EXPECT_TRUE(systemd.hears("READY=1"));
        const auto stored = systemd.stored();
        ASSERT_EQ(stored.size(), 2u);
        for (const auto& [name, fd] : stored) {
            EXPECT_TRUE(std::regex_match(name, std::regex("image-[0-9a-f]{32}"))) << name;
            EXPECT_EQ(fcntl(fd, F_GET_SEALS), F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL);
            EXPECT_EQ(pwrite(fd, "x", 1, 0), -1);
            EXPECT_EQ(ftruncate(fd, 0), -1);
        }
        EXPECT_NE(stored[0].first, stored[1].first);
        kill_hard(d);
    }
}

TEST(Kept, only_what_is_sealed_whole_and_of_the_very_file) {
    Systemd systemd;
    const std::string image = own_image("checked.slm");
    std::string name;
    {
        Daemon d({.environment = systemd.environment(), .image = image});
        name = systemd.stored().at(0).first;
        kill_hard(d);
    }
    const int good = dup(systemd.stored().at(0).second);
    const std::size_t size = static_cast<std::size_t>(lseek(good, 0, SEEK_END));
    const struct {
        const char* said;
        int fd;
    } cases[] = {{"is not sealed", memory_of(good, false, size)},
                 {"has another size", memory_of(good, true, size - 4096)},
                 {"slmd: ", open("/dev/null", O_RDWR | O_CLOEXEC)}};
    for (const auto& c : cases) {
        systemd.forget();
        systemd.put(name, c.fd);
        Daemon d({.environment = systemd.environment(), .image = image, .handed_over = systemd.stored()});
        const std::string log = slurp(d.log);
        EXPECT_NE(log.find(c.said), std::string::npos) << log;
        EXPECT_NE(log.find(name + " is given up"), std::string::npos) << log;
        EXPECT_NE(log.find("reading the file"), std::string::npos) << log;
        EXPECT_TRUE(systemd.hears("FDSTOREREMOVE=1\nFDNAME=" + name));
        EXPECT_TRUE(systemd.hears("READY=1"));
        EXPECT_NE(d.answer(france).find("Paris"), std::string::npos);
        EXPECT_EQ(systemd.stored().size(), 1u);  // the new one
        kill_hard(d);
    }
    // an index that is not the file's: one bit differs, everything else fits
    systemd.forget();
    std::string bytes(size, 0);
    ASSERT_EQ(pread(good, bytes.data(), size, 0), static_cast<ssize_t>(size));
    slmd::image::RawHeader header;
    memcpy(&header, bytes.data(), sizeof header);
    for (const auto& section : header.sections)
        if (section.id == static_cast<std::uint32_t>(slmd::image::SectionId::index))
            bytes[section.offset] = static_cast<char>(bytes[section.offset] ^ 1);
    const int other = memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    ASSERT_EQ(write(other, bytes.data(), size), static_cast<ssize_t>(size));
    fcntl(other, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL);
    systemd.put(name, other);
    Daemon d({.environment = systemd.environment(), .image = image, .handed_over = systemd.stored()});
    EXPECT_NE(slurp(d.log).find("SHA-256 mismatch"), std::string::npos) << slurp(d.log);
    EXPECT_NE(slurp(d.log).find("reading the file"), std::string::npos) << slurp(d.log);
    close(good);
}

TEST(Kept, an_image_replaced_while_it_runs_is_noticed_at_the_next_start) {
    Systemd systemd;
    const std::string image = own_image("replaced.slm"), fresh = own_image("fresh.slm");
    std::string first;
    {
        Daemon d({.environment = systemd.environment(), .image = image});
        first = systemd.stored().at(0).first;
        const std::string answer = d.answer(france);
        std::filesystem::rename(fresh, image);  // the same bytes, another file
        EXPECT_EQ(d.answer(france), answer);
        std::ofstream(image + ".new") << "not an image";
        std::filesystem::rename(image, fresh);
        std::filesystem::rename(image + ".new", image);
        EXPECT_EQ(d.answer(france), answer);
        kill_hard(d);
    }
    {
        Daemon d({.environment = systemd.environment(),
                  .tty = false,
                  .image = image,
                  .handed_over = systemd.stored(),
                  .comes_up = false});
        EXPECT_EQ(d.wait(), 1);
        EXPECT_NE(slurp(d.log).find("not a model image"), std::string::npos) << slurp(d.log);
    }
    std::filesystem::rename(fresh, image);
    Daemon d({.environment = systemd.environment(), .image = image, .handed_over = systemd.stored()});
    EXPECT_NE(slurp(d.log).find(first + " is given up"), std::string::npos) << slurp(d.log);
    EXPECT_TRUE(systemd.hears("READY=1"));
    ASSERT_EQ(systemd.stored().size(), 1u);
    EXPECT_NE(systemd.stored()[0].first, first);
    EXPECT_NE(d.answer(france).find("Paris"), std::string::npos);
}

// A listening socket and images come together, in any order.
TEST(Kept, sockets_and_images_are_told_apart) {
    Systemd systemd;
    {
        Daemon d({.environment = systemd.environment()});
        kill_hard(d);
    }
    const std::string path = folder() + "/together";
    const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_un a{};
    a.sun_family = AF_UNIX;
    path.copy(a.sun_path, sizeof a.sun_path - 1);
    ASSERT_EQ(bind(fd, reinterpret_cast<sockaddr*>(&a), sizeof a), 0);
    ASSERT_EQ(listen(fd, 8), 0);
    for (const bool image_first : {true, false}) {
        auto given = systemd.stored();
        ASSERT_EQ(given.size(), 1u);
        given.insert(image_first ? given.end() : given.begin(), {"slmd.socket", fd});
        Daemon d({.environment = systemd.environment(), .handed_over = given});
        EXPECT_NE(slurp(d.log).find("kept in memory over the restart"), std::string::npos) << slurp(d.log);
        d.socket = path;
        EXPECT_NE(d.answer(france).find("Paris"), std::string::npos);
        kill_hard(d);
    }
    close(fd);
}
