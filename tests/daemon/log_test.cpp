// Where messages go, and in which form.
#include "daemon/log.h"

#include <endian.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "harness.h"

using namespace slmd::testing;

namespace {

// In a process of its own: where messages go is found out once. Standard error is `stream`.
int in_child(int stream, bool is_journal, const std::string& journal, const std::function<void()>& act) {
    const pid_t pid = fork();
    if (pid == 0) {
        dup2(stream, 2);
        struct stat st;
        fstat(stream, &st);
        const std::string name = std::to_string(st.st_dev) + ":" + std::to_string(st.st_ino + (is_journal ? 0 : 1));
        setenv("JOURNAL_STREAM", name.c_str(), 1);
        slmd::daemon::open_log(journal.c_str());
        act();
        _exit(0);
    }
    int status;
    waitpid(pid, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

struct Journal {
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    std::string path = folder() + "/journal";
    Journal() {
        unlink(path.c_str());
        sockaddr_un a{};
        a.sun_family = AF_UNIX;
        path.copy(a.sun_path, sizeof a.sun_path - 1);
        EXPECT_EQ(bind(fd, reinterpret_cast<sockaddr*>(&a), sizeof a), 0);
    }
    ~Journal() { close(fd); }
    std::string next() const {
        char b[65536];
        const ssize_t n = recv(fd, b, sizeof b, MSG_DONTWAIT);
        return n < 0 ? "(nothing)" : std::string(b, static_cast<std::size_t>(n));
    }
};

struct Pipe {
    int ends[2];
    Pipe() { EXPECT_EQ(pipe(ends), 0); }
    ~Pipe() { close(ends[0]), close(ends[1]); }
    std::string all() const {
        fcntl(ends[0], F_SETFL, O_NONBLOCK);
        std::string s;
        char b[65536];
        for (ssize_t n; (n = read(ends[0], b, sizeof b)) > 0;) s.append(b, static_cast<std::size_t>(n));
        return s;
    }
};

using slmd::daemon::Level;
using slmd::daemon::log;

}  // namespace

TEST(Log, the_journal_gets_fields) {
    const Journal journal;
    const Pipe err;
    ASSERT_EQ(in_child(err.ends[1], true, journal.path,
                       [] {
                           log(Level::warning, {{"SLMD_EVENT", "hot"}, {"SLMD_TEMP_C", 81.5}, {"SLMD_THREADS", -2}},
                               "%s: %d", "it is hot", 7);
                           log(Level::error, {{"SLMD_WHY", "one\ntwo"}}, "a\nb");
                       }),
              0);
    EXPECT_EQ(journal.next(),
              "MESSAGE=it is hot: 7\nPRIORITY=4\nSYSLOG_IDENTIFIER=slmd\nSLMD_EVENT=hot\nSLMD_TEMP_C=81.5\n"
              "SLMD_THREADS=-2\n");
    const auto lines = [](const std::string& name, const std::string& value) {
        const std::uint64_t n = htole64(value.size());
        return name + "\n" + std::string(reinterpret_cast<const char*>(&n), 8) + value + "\n";
    };
    EXPECT_EQ(journal.next(),
              lines("MESSAGE", "a\nb") + "PRIORITY=3\nSYSLOG_IDENTIFIER=slmd\n" + lines("SLMD_WHY", "one\ntwo"));
    EXPECT_EQ(err.all(), "");
}

TEST(Log, elsewhere_it_is_a_line_with_its_priority) {
    const Journal journal;
    const Pipe err;
    const auto act = [] { log(Level::info, {{"SLMD_EVENT", "x"}}, "%s", std::string(2000, 'y').c_str()); };
    ASSERT_EQ(in_child(err.ends[1], false, journal.path, act), 0);
    EXPECT_EQ(journal.next(), "(nothing)");
    EXPECT_EQ(err.all(), "<6>slmd: " + std::string(511, 'y') + "\n");
    // the journal says that it is ours, and does not answer
    ASSERT_EQ(in_child(err.ends[1], true, folder() + "/nobody", [] { log(Level::notice, {}, "still said"); }), 0);
    EXPECT_EQ(err.all(), "<5>slmd: still said\n");
}

TEST(Log, what_nobody_takes_is_dropped_and_counted) {
    const Pipe err;
    fcntl(err.ends[1], F_SETFL, O_NONBLOCK);
    const std::string block(4096, 'x');
    std::size_t filled = 0;
    for (ssize_t n; (n = write(err.ends[1], block.data(), block.size())) > 0;) filled += static_cast<std::size_t>(n);
    fcntl(err.ends[1], F_SETFL, 0);  // a write would wait for ever now
    ASSERT_EQ(in_child(err.ends[1], false, "",
                       [&] {
                           for (int i = 0; i < 3; i++) log(Level::info, {}, "lost %d", i);
                           std::string s(filled, 0);
                           (void)!read(err.ends[0], s.data(), s.size());
                           log(Level::info, {}, "taken");
                       }),
              0);
    EXPECT_EQ(err.all(), "<4>slmd: 3 messages before this one are lost: nothing took them\n<6>slmd: taken\n");
}
