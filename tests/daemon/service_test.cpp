// slmd as a service: what it keeps over a restart.
#include <sys/mman.h>
#include <sys/stat.h>

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
    for (std::string l; std::getline(lines, l);) {
        if (l.find("<" + file + ">") == std::string::npos) continue;
        const std::string call = l.substr(0, l.find('('));
        if (call == "read" || call == "pread64" || call == "readv" || call == "preadv")
            r.bytes += std::stoull(l.substr(l.rfind(" = ") + 3));
        r.maps += call == "mmap";
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
            EXPECT_EQ(name.rfind("image-", 0), 0u) << name;
            EXPECT_EQ(name.find_first_not_of("0123456789abcdef", 6), std::string::npos) << name;
            EXPECT_EQ(name.size(), 6u + 32u);
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

namespace {

// A pseudo-terminal that stays when nobody has its slave open.
struct Pty {
    Wire master{posix_openpt(O_RDWR | O_NOCTTY)};
    std::string name;
    int slave;
    Pty() {
        grantpt(master.fd()), unlockpt(master.fd());
        char n[64];
        ptsname_r(master.fd(), n, sizeof n);
        name = n;
        slave = open(n, O_RDWR | O_NOCTTY | O_CLOEXEC);
        termios t;
        tcgetattr(slave, &t);
        cfmakeraw(&t);
        tcsetattr(slave, TCSANOW, &t);
    }
    ~Pty() { close(slave); }
};

constexpr const char* greeting = "\r\n#READY: 1,\"slmd\",\"0.1.0\"\r\n";

// slmd with a configuration that can be changed under it.
struct Reloading {
    Systemd systemd;
    std::string file = folder() + "/reload.toml", more;
    std::string head, socket_table = "[socket]\npath = \"" + folder() + "/reload.sock\"\n";
    std::unique_ptr<Daemon> d;

    explicit Reloading(const std::string& rest, const std::vector<std::string>& environment = {}) {
        write(rest);
        auto e = systemd.environment();
        e.insert(e.end(), environment.begin(), environment.end());
        d = std::make_unique<Daemon>(
            DaemonOptions{.arguments = {"--config", file}, .environment = e, .tty = false, .only_arguments = true});
        d->socket = folder() + "/reload.sock";
        EXPECT_TRUE(systemd.hears("READY=1"));
    }
    void write(const std::string& rest) const {
        std::ofstream(file) << "model = \"" << tiny_image() << "\"\n" << socket_table << rest;  // 3 lines, then rest
    }
    // Whether systemd saw it begin and end.
    bool reload(const std::string& rest) {
        write(rest);
        kill(d->pid(), SIGHUP);
        if (!systemd.hears("RELOADING=1\nMONOTONIC_USEC=")) return false;
        timespec now;
        clock_gettime(CLOCK_MONOTONIC, &now);
        const std::string& m = systemd.last();
        const long long usec = std::stoll(m.substr(m.find("USEC=") + 5));
        EXPECT_GT(usec, 0);
        EXPECT_LE(usec, now.tv_sec * 1000000LL + now.tv_nsec / 1000);
        return systemd.hears("READY=1");
    }
    std::string log() const { return slurp(d->log); }
};

std::size_t count(const std::string& text, const std::string& part) {
    std::size_t n = 0;
    for (std::size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) n++;
    return n;
}

}  // namespace

TEST(Reload, takes_what_it_can_and_names_the_rest) {
    Reloading r("mode = \"0600\"\n[generate]\nmax = 3\n[limits]\nclients = 4\nqueue = 4\n");
    const auto setting = [&](const char* name) {
        Wire w = r.d->connect();
        return w.call("set")["result"][name];
    };
    Wire old = r.d->connect();
    EXPECT_EQ(old.call("set")["result"]["max"], 3);
    struct stat st;
    ASSERT_EQ(stat(r.d->socket.c_str(), &st), 0);
    EXPECT_EQ(st.st_mode & 0777, 0600u);
    ASSERT_TRUE(
        r.reload("mode = \"0640\"\n[generate]\nmax = 5\nsystem = \"Be brief.\"\n[limits]\nclients = 2\nqueue = 1\n"));
    EXPECT_NE(r.log().find("<5>slmd: reloaded\n"), std::string::npos) << r.log();
    EXPECT_EQ(setting("max"), 5);
    EXPECT_EQ(old.call("set")["result"]["max"], 3) << "a connection keeps what it has";
    ASSERT_EQ(stat(r.d->socket.c_str(), &st), 0);
    EXPECT_EQ(st.st_mode & 0777, 0640u);
    {  // two clients at most now: old and this one
        Wire second = r.d->connect();
        second.call("stat");
        Wire third = r.d->connect();
        EXPECT_EQ(third.until("\r\n"), "+CME ERROR: 262\r\n");
    }
    // what only a restart can do is named, the rest is done, and named again the next time
    const std::string later =
        "mode = \"0640\"\n[generate]\nmax = 6\n[limits]\nclients = 9\nqueue = 1\n[engine]\nslots = 3\ncontext = 64\n";
    for (std::size_t n = 1; n <= 2; n++) {
        ASSERT_TRUE(r.reload(later));
        EXPECT_EQ(count(r.log(),
                        "only a restart changes: [engine] context, [engine] slots, more [limits] clients than at "
                        "the start\n"),
                  n)
            << r.log();
    }
    EXPECT_EQ(setting("max"), 6);
    std::ofstream(r.file) << "model = \"/nowhere/x.slm\"\n[socket]\npath = \"/nowhere/s\"\n";
    kill(r.d->pid(), SIGHUP);
    ASSERT_TRUE(r.systemd.hears("READY=1"));
    EXPECT_NE(r.log().find("only a restart changes: model, [socket] path"), std::string::npos) << r.log();
    EXPECT_NE(r.d->answer(france).find("Paris"), std::string::npos);
}

TEST(Reload, a_broken_file_changes_nothing) {
    const std::string good = "[generate]\nmax = 7\n";
    Reloading r(good);
    const std::pair<const char*, const char*> cases[] = {
        {"[generate]\nmax = 9\ntempo = 1\n", ":6: unknown key \"tempo\""},
        {"[generate]\nmax = \n", ":5: "},
        {"mode = \"0600\"\ngroup = \"nobody-has-this\"\n[generate]\nmax = 9\n", ":5: no group \"nobody-has-this\""},
        {"[limits]\nclients = 1\n[[tty]]\npath = \"/dev/x\"\n[generate]\nmax = 9\n",
         "clients = 1, and 1 serial lines"}};
    for (const auto& [text, expected] : cases) {
        ASSERT_TRUE(r.reload(text));
        const std::string log = r.log(), last = log.substr(log.rfind('\n', log.size() - 2) + 1);
        EXPECT_EQ(last.rfind("<3>slmd: reload refused, nothing changes: ", 0), 0u) << log;
        EXPECT_NE(last.find(expected[0] == ':' ? r.file + expected : expected), std::string::npos) << last;
        Wire w = r.d->connect();
        EXPECT_EQ(w.call("set")["result"]["max"], 7);
        struct stat st;
        ASSERT_EQ(stat(r.d->socket.c_str(), &st), 0);
        EXPECT_EQ(st.st_mode & 0777, 0660u);
    }
    std::filesystem::remove(r.file);
    kill(r.d->pid(), SIGHUP);
    ASSERT_TRUE(r.systemd.hears("READY=1"));
    EXPECT_EQ(count(r.log(), "reload refused"), std::size(cases) + 1);
    EXPECT_NE(r.d->answer(france, {{"max", 60}}).find("Paris"), std::string::npos);
}

TEST(Reload, streams_run_through_it) {
    Pty pty;
    const std::string tty = "[[tty]]\npath = \"" + pty.name + "\"\n";
    Reloading r(tty);
    pty.master.until(greeting);
    const json params = {{"prompt", "Say something."}, {"max", 200}, {"bias", endless()}};
    const std::string texts[] = {tty + "[generate]\nmax = 9\ntemp = 1.5\nsystem = \"Talk like a pirate.\"\n",
                                 tty + "[generate]\nnonsense = 9\n", tty + "[limits]\nclients = 9\nqueue = 2\n",
                                 tty + "[engine]\nslots = 7\n"};
    pty.master.send("ATE0\rAT#SET=\"bias\",\"" + endless() + "\"\r");
    pty.master.until("\r\nOK\r\n"), pty.master.until("\r\nOK\r\n");
    std::size_t in_the_middle = 0;
    for (int round = 0; round < 20; round++) {
        const std::string alone = r.d->answer("Say something.", params);  // by the configuration of now
        ASSERT_GT(alone.size(), 100u);
        Wire w = r.d->connect();
        json streamed = params;
        streamed["stream"] = true;
        w.send(json{{"jsonrpc", "2.0"}, {"id", 1}, {"method", "gen"}, {"params", streamed}}.dump() + "\n");
        pty.master.send("AT#GEN=\"Say something.\",200\r");
        const json first = w.line();
        std::string text = first["params"].value("text", "");
        ASSERT_TRUE(r.reload(texts[round % 4]));
        json now;
        {
            Wire v = r.d->connect();
            now = v.call("stat")["result"];
        }
        in_the_middle += now["state"] == "busy";
        w.reply(1, &text);
        EXPECT_EQ(text, alone) << "round " << round;
        const std::string reply = pty.master.until("\r\nOK\r\n");  // by that of the first connection
        EXPECT_NE(reply.find("#GEN: \"length\","), std::string::npos) << reply;
    }
    EXPECT_GT(in_the_middle, 0u) << "no answer was under way when the configuration had been read";
    EXPECT_EQ(count(r.log(), "reload refused"), 5u);
    EXPECT_EQ(count(r.log(), ": reloaded"), 15u);
}

TEST(Reload, serial_lines_come_go_and_change) {
    Pty a, b;
    const auto table = [](const Pty& p, int baud) {
        return "[[tty]]\npath = \"" + p.name + "\"\nbaud = " + std::to_string(baud) + "\n";
    };
    const auto speed = [](const Pty& p) {
        termios t;
        tcgetattr(p.slave, &t);
        return cfgetospeed(&t);
    };
    const auto silent = [](Pty& p) {
        p.master.send("AT\r");
        return p.master.some(300).empty();
    };
    Reloading r(table(a, 115200));
    a.master.until(greeting);
    ASSERT_TRUE(r.reload(table(b, 9600) + table(a, 115200)));
    b.master.until(greeting);
    EXPECT_EQ(speed(b), speed_t{B9600});
    a.master.send("ATE0\rAT#SET=\"bias\",\"" + endless() + "\"\r");
    a.master.until("\r\nOK\r\n"), a.master.until("\r\nOK\r\n");
    b.master.send("AT\r");
    b.master.until("\r\nOK\r\n");
    // a changes and b goes, while a answers: it answers to its end, then it has the new rate and greets again
    a.master.send("AT#GEN=\"Say something.\",200\r");
    a.master.until("#TOK: ");
    ASSERT_TRUE(r.reload(table(a, 57600)));
    EXPECT_NE(a.master.until("\r\nOK\r\n").find("#GEN: \"length\","), std::string::npos);
    a.master.until(greeting);
    EXPECT_EQ(speed(a), speed_t{B57600});
    EXPECT_TRUE(silent(b));
    // one that is not there is waited for
    const std::string link = folder() + "/adapter";
    ASSERT_TRUE(r.reload(table(a, 57600) + "[[tty]]\npath = \"" + link + "\"\n"));
    EXPECT_NE(r.log().find("serial line " + link + ": cannot open"), std::string::npos) << r.log();
    EXPECT_NE(r.log().find("trying again each second"), std::string::npos) << r.log();
    std::filesystem::create_symlink(b.name, link);
    while (b.master.some(50).find("AT") != std::string::npos) {
    }
    b.master.until(greeting);
    EXPECT_NE(r.log().find("serial line " + link + " is open"), std::string::npos) << r.log();
    a.master.send("AT\r");
    a.master.until("\r\nOK\r\n");
}

TEST(Reload, an_adapter_that_is_not_there_at_the_start_is_waited_for) {
    const std::string link = folder() + "/late-adapter";
    Pty a;
    Daemon d({.arguments = {"--tty", link}, .tty = false});
    EXPECT_NE(slurp(d.log).find("serial line " + link + ": cannot open"), std::string::npos) << slurp(d.log);
    EXPECT_NE(d.answer(france).find("Paris"), std::string::npos);
    std::filesystem::create_symlink(a.name, link);
    a.master.until(greeting);
    a.master.send("AT\r");
    a.master.until("\r\nOK\r\n");
}

// The one exception to "nothing is allocated after READY" is none in sum.
TEST(Reload, gives_back_all_that_it_allocates) {
#if defined(SLMD_SANITIZED)
    GTEST_SKIP() << "the sanitizers have their own allocator: run this test in the release build";
#endif
    const std::string report = folder() + "/reload-counts";
    Reloading r("[generate]\nmax = 7\n", {"LD_PRELOAD=" SLMD_MALLOC_COUNT, "MALLOC_COUNT=" + report});
    std::string stops = "stop = [\"a\", \"b\"]\n";
    const auto anonymous = [&] {
        std::ifstream f("/proc/" + std::to_string(r.d->pid()) + "/smaps_rollup");
        for (std::string l; std::getline(f, l);)
            if (l.rfind("Anonymous:", 0) == 0) return std::stol(l.substr(10));
        return -1L;
    };
    const auto heap = [&] {
        std::ifstream f("/proc/" + std::to_string(r.d->pid()) + "/maps");
        for (std::string l; std::getline(f, l);)
            if (l.find("[heap]") != std::string::npos) return l.substr(0, l.find(' '));
        return std::string();
    };
    const std::string texts[] = {"[generate]\nmax = 8\n" + stops, "[generate]\nmax = 8\nwrong = 1\n",
                                 "group = \"root\"\n", "group = \"nobody-has-this\"\n", "[generate\n"};
    for (int i = 0; i < 4; i++)  // what a first time touches, it keeps
        for (const std::string& text : texts) ASSERT_TRUE(r.reload(text));
    const long before = anonymous();
    ASSERT_GT(before, 0);
    const auto many = [&] {
        for (int i = 0; i < 200; i++) ASSERT_TRUE(r.reload(texts[static_cast<std::size_t>(i) % std::size(texts)]));
    };
    many();
    EXPECT_LE(anonymous(), before + 8) << "KiB";
    const std::string heap_between = heap();
    many();
    EXPECT_EQ(heap(), heap_between);
    EXPECT_LE(anonymous(), before + 8) << "KiB";
    kill(r.d->pid(), SIGUSR2);  // the counter needs memory itself
    many();
    kill(r.d->pid(), SIGUSR2);
    std::string counts;
    for (int i = 0; i < 500 && counts.find("counts") == std::string::npos; i++) usleep(10'000), counts = slurp(report);
    long allocated = 0, freed = 0;
    ASSERT_EQ(std::sscanf(counts.c_str() + std::min(counts.find("counts"), counts.size()), "counts %ld %ld", &allocated,
                          &freed),
              2)
        << counts;
    EXPECT_GT(allocated, 200) << "nothing was counted: this test cannot fail";
    EXPECT_EQ(allocated, freed);
}

namespace {

// slmd with faults that a file each brings on, and a watchdog that wants to hear of it each 30 ms.
struct Faulty {
    Systemd systemd;
    const std::string loop = folder() + "/hook-loop", engine = folder() + "/hook-engine",
                      slow = folder() + "/hook-slow", clock = folder() + "/hook-clock";
    std::unique_ptr<Daemon> d;

    explicit Faulty(const std::vector<std::string>& arguments = {}) {
        for (const auto& f : {loop, engine, slow, clock}) std::filesystem::remove(f);
        auto e = systemd.environment("90000");
        for (const auto& s :
             {"LD_PRELOAD=" SLMD_HOOKS + std::string(), "HOOK_LOOP=" + loop, "HOOK_ENGINE=" + engine,
              "HOOK_SLOW=" + slow, "HOOK_CLOCK=" + clock, std::string("ASAN_OPTIONS=verify_asan_link_order=0")})
            e.push_back(s);
        d = std::make_unique<Daemon>(DaemonOptions{.arguments = arguments, .environment = e, .tty = false});
        EXPECT_TRUE(systemd.hears("READY=1"));
    }
    ~Faulty() {
        if (d->pid() > 0) kill_hard(*d);
    }
    // How often the watchdog was fed in that time.
    std::size_t fed(int ms) {
        systemd.said();
        usleep(static_cast<useconds_t>(ms) * 1000);
        std::size_t n = 0;
        for (const std::string& s : systemd.said()) n += s == "WATCHDOG=1";
        return n;
    }
    Wire ask(int max) const {
        Wire w = d->connect();
        w.send(json{{"jsonrpc", "2.0"},
                    {"id", 1},
                    {"method", "gen"},
                    {"params", {{"prompt", "Say something."}, {"max", max}, {"bias", endless()}, {"stream", true}}}}
                   .dump() +
               "\n");
        return w;
    }
};

void touch(const std::string& path) { std::ofstream(path) << "now"; }

}  // namespace

TEST(Watchdog, is_not_fed_when_the_engine_hangs_though_the_event_loop_lives) {
    Faulty f;
    EXPECT_TRUE(f.systemd.hears("WATCHDOG=1")) << "idle is no fault";
    touch(f.slow);  // else a busy machine gets here again when the answer is over
    Wire w = f.ask(200);
    w.line();
    touch(f.engine);
    f.fed(300);  // the pass that it was at
    EXPECT_EQ(f.fed(1000), 0u);
    Wire other = f.d->connect();
    EXPECT_EQ(other.call("stat")["result"]["state"], "busy") << "the event loop lives";
    EXPECT_EQ(f.fed(500), 0u) << "its living is no progress";
}

TEST(Watchdog, is_not_fed_when_the_event_loop_hangs) {
    Faulty f;
    EXPECT_TRUE(f.systemd.hears("WATCHDOG=1"));
    touch(f.loop);
    f.fed(300);
    EXPECT_EQ(f.fed(1000), 0u);
}

TEST(Watchdog, is_fed_while_a_prompt_is_read_and_an_answer_made_slowly) {
    const std::string file = folder() + "/slow.toml";
    std::ofstream(file) << "[engine]\nbatch = 1\nslots = 1\n";
    Faulty f({"--config", file});
    touch(f.slow);
    Wire w = f.d->connect();
    const std::string prompt =
        "What is the capital of France? What is the capital of Italy? What is 3 plus 4? Turn on the pump.";
    w.send(json{{"jsonrpc", "2.0"},
                {"id", 1},
                {"method", "gen"},
                {"params", {{"prompt", prompt}, {"max", 8}, {"stream", true}, {"progress", true}}}}
               .dump() +
           "\n");
    f.systemd.said();
    int total = 0;
    for (int done = -1; done < total || total == 0;) {  // until the prompt has been read
        const json l = w.line();
        ASSERT_FALSE(l.is_null());
        if (l["method"] != "progress") break;
        done = l["params"].value("done", 0), total = l["params"].value("total", 0);
    }
    std::size_t fed = 0;
    for (const std::string& s : f.systemd.said()) fed += s == "WATCHDOG=1";
    EXPECT_GT(total, 20);
    EXPECT_GE(fed, 3u);
    w.reply(1);
    EXPECT_TRUE(f.systemd.hears("WATCHDOG=1"));
}

// systemd's watchdog runs from READY on; before it, progress is what extends the time to start.
TEST(Watchdog, loading_asks_for_more_time_as_it_gets_on) {
    Systemd systemd;
    const std::string hang = folder() + "/hook-load";
    touch(hang);  // where the first frame has been read
    auto environment = systemd.environment("90000");
    for (const auto& s : {"LD_PRELOAD=" SLMD_HOOKS + std::string(), "HOOK_ENGINE=" + hang,
                          std::string("ASAN_OPTIONS=verify_asan_link_order=0")})
        environment.push_back(s);
    Daemon d({.environment = environment, .tty = false, .comes_up = false});
    EXPECT_TRUE(systemd.hears("STATUS=Loading the model: "));
    EXPECT_NE(systemd.last().find("EXTEND_TIMEOUT_USEC="), std::string::npos) << systemd.last();
    kill_hard(d);
}

// A board without a battery learns the time from the network, years later than it started.
TEST(Clock, may_jump) {
    Faulty f;
    touch(f.slow);
    const json params = {
        {"prompt", "Say something."}, {"max", 40}, {"bias", endless()}, {"deadline_ms", 60000}, {"stream", true}};
    std::string texts[3];
    for (const char* where : {"", "ahead", "back"}) {
        Wire w = f.d->connect();
        w.send(json{{"jsonrpc", "2.0"}, {"id", 1}, {"method", "gen"}, {"params", params}}.dump() + "\n");
        std::string& text = texts[where[0] == 'a' ? 1 : where[0] == 'b' ? 2 : 0];
        const json first = w.line();
        text = first["params"].value("text", "");
        if (where[0] != 0) std::ofstream(f.clock) << where;
        const json r = w.reply(1, &text)["result"];
        EXPECT_EQ(r["finish"], "length") << where;
        EXPECT_EQ(r["tokens"], 40);
        EXPECT_GE(r["total_ms"], 0);
        EXPECT_LT(r["total_ms"], 60000);
        f.systemd.said();
        EXPECT_TRUE(f.systemd.hears("WATCHDOG=1")) << where;
    }
    EXPECT_EQ(texts[1], texts[0]);
    EXPECT_EQ(texts[2], texts[0]);
    EXPECT_EQ(f.d->stop(), 0);
}

// A full or read-only state folder costs what would have been kept, no more.
TEST(State, full_or_read_only) {
    const std::string state = folder() + "/state-full";
    std::filesystem::create_directory(state);
    for (const std::string& options : {std::string("size=4k"), std::string("ro")}) {
        if (shell("mount -t tmpfs -o " + options + " none " + state).code != 0)
            GTEST_SKIP() << "needs root and mount(2) to make a small and a read-only file system";
        struct Unmount {
            const std::string& path;
            ~Unmount() { shell("umount -l " + path); }
        } const unmount{state};
        if (options != "ro") std::ofstream(state + "/filler") << std::string(4096, 'x');
        Daemon d({.arguments = {"--state", state}});
        EXPECT_NE(d.answer(france).find("Paris"), std::string::npos);
        const std::string log = slurp(d.log);
        EXPECT_NE(log.find("<4>slmd: thread counts are measured at each start: "), std::string::npos) << log;
        EXPECT_NE(log.find(options == "ro" ? "Read-only file system" : "No space left on device"), std::string::npos)
            << log;
        std::size_t files = 0;
        for ([[maybe_unused]] const auto& e : std::filesystem::directory_iterator(state)) files++;
        EXPECT_EQ(files, options == "ro" ? 0u : 1u) << "half a file was left behind";
    }
}
