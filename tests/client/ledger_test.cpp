// slmctl ledger on a small ledger: what it prints, exactly where it matters.
#include "client/ledger.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <sstream>

#include "client/export.h"
#include "client/ledger_files.h"
#include "client/ledger_report.h"
#include "client/replay.h"
#include "route/ledger.h"
#include "route/ledger_records.h"

namespace slmd::client {
namespace {

namespace fs = std::filesystem;
using namespace route;
using route::testing::decision_record;
using route::testing::outcome_record;

constexpr char signing_key[] = R"(-----BEGIN EC PRIVATE KEY-----
MHcCAQEEIL9oc8U4dd6GfzvYlt3cBMyY/WdmP9TKgMw6OU6T+kPzoAoGCCqGSM49
AwEHoUQDQgAEKWEMIPaSdfqaD3NaXfm/RgTtIK1BPHQOlRkMlQs/O8h9yk/GtcAx
TamxLi08qPXTHbqdZqZOaaMVIOsRQdfwcw==
-----END EC PRIVATE KEY-----
)";
constexpr char signing_key_public[] = R"(-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEKWEMIPaSdfqaD3NaXfm/RgTtIK1B
PHQOlRkMlQs/O8h9yk/GtcAxTamxLi08qPXTHbqdZqZOaaMVIOsRQdfwcw==
-----END PUBLIC KEY-----
)";
constexpr char other_key_public[] = R"(-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE1F3n4Yk3kY+vmCRBc0YPbPlEsbrN
ZnfoFQisf246U9LgXXezPekikCTMQRBljx/hLfgmz925nW7+13wRPY360g==
-----END PUBLIC KEY-----
)";

class LedgerCommands : public ::testing::Test {
  protected:
    void SetUp() override {
        char name[] = "/tmp/slmd-ledger-XXXXXX";
        ASSERT_NE(mkdtemp(name), nullptr);
        folder = name;
        ASSERT_TRUE(disk.open_folder((folder / "ledger").c_str()));
        Ledger ledger;
        Ledger::Time now{1'767'225'600'000, 5000};  // 2026-01-01
        ASSERT_TRUE(ledger.open(disk, {}, now));
        for (int i = 0; i < 20; i++) {  // every fifth leaves
            now.wall_ms += 1000, now.uptime_ms += 1000;
            const auto sequence = ledger.append(decision_record(i), now);
            ASSERT_TRUE(sequence);
            if (i % 5 == 0) {
                ASSERT_TRUE(ledger.append(outcome_record(i, sequence.value()), now));
            }
        }
        ASSERT_TRUE(ledger.stop(now));
        path = (folder / "ledger").string();
        command.paths = {path.c_str()};
    }
    void TearDown() override { fs::remove_all(folder); }
    template <class F>
    std::string print(F&& f) {
        char* text = nullptr;
        std::size_t size = 0;
        FILE* const out = open_memstream(&text, &size);
        f(out);
        fclose(out);
        const std::string printed(text, size);
        free(text);
        return printed;
    }
    static std::string contents(const fs::path& file) {
        std::ifstream in(file);
        std::stringstream s;
        s << in.rdbuf();
        return s.str();
    }
    static void expect(const std::string& text, const std::vector<const char*>& parts) {
        for (const char* part : parts) EXPECT_NE(text.find(part), std::string::npos) << part << "\n" << text;
    }

    fs::path folder;
    std::string path;
    Folder disk;
    LedgerCommand command;
};

TEST_F(LedgerCommands, verify_counts_and_names_what_is_wrong) {
    bool good = false;
    std::string said = print([&](FILE* out) { good = verify_ledger(command, out).value(); });
    EXPECT_TRUE(good);
    expect(said,
           {"26 records in 1 files are good (20 decisions, 4 outcomes), 1 to 26, 2026-01-01T00:00:20Z\nhead 26 "});
    const fs::path file = folder / "ledger/00000001.ledger";
    std::string bytes = contents(file);
    bytes[256 * 3 + 90] ^= 1;
    std::ofstream(file) << bytes;
    said = print([&](FILE* out) { good = verify_ledger(command, out).value(); });
    EXPECT_FALSE(good);
    expect(said,
           {"00000001.ledger: record 3 (sequence 3): cost_micro: bit 16 has changed\n", "25 records", "1 faults\n"});
    command.paths = {"/nowhere"};
    EXPECT_FALSE(verify_ledger(command, stdout));
    const std::string empty = folder.string();
    command.paths = {empty.c_str()};
    EXPECT_EQ(verify_ledger(command, stdout).error().code, Code::not_found);
}

// Keys of openssl ecparam -name prime256v1 -genkey -noout.
TEST_F(LedgerCommands, a_signed_head_vouches_for_all_before_it) {
    const std::string key = folder / "key", pub = folder / "key.pub", other = folder / "other.pub";
    std::ofstream(key) << signing_key;
    std::ofstream(pub) << signing_key_public;
    std::ofstream(other) << other_key_public;
    bool good = false;
    const auto verify = [&] {
        return print([&](FILE* out) {
            const auto r = verify_ledger(command, out);
            good = r && r.value();
            if (!r) fputs(r.error().text, out);
        });
    };
    command.key = key.c_str();
    ASSERT_EQ(print([&](FILE* out) { ASSERT_TRUE(sign_ledger(command, out)); }), "signed up to record 26\n");
    command.key = pub.c_str();
    expect(verify(), {"signed up to record 26\n"});
    EXPECT_TRUE(good);
    command.key = other.c_str();
    expect(verify(), {"no record that is here was signed\n"});
    command.key = key.c_str();
    expect(verify(), {"a private key"});

    // Cut short: a good chain without its end.
    command.key = pub.c_str();
    const fs::path file = folder / "ledger/00000001.ledger";
    const std::string bytes = contents(file);
    std::ofstream(file) << bytes.substr(0, 256 * 20);
    expect(verify(), {"19 records", "record 26 was signed and is not there: the ledger was cut short\n"});
    EXPECT_FALSE(good);
    // Made anew from another beginning, with hashes that fit.
    std::string forged = bytes;
    Sha256 before{};
    for (std::size_t at = 256; at < 256 * 27; at += 256) {
        LedgerRecord r;
        memcpy(&r, forged.data() + at, sizeof r);
        if (r.sequence == 3) r.cost_micro = 0, r.confidence = 1;
        before = ledger_hash(before, r).value();
        memcpy(r.hash, before.data(), before.size());
        memcpy(forged.data() + at, &r, sizeof r);
    }
    std::ofstream(file) << forged;
    expect(verify(), {"record 26 is not the one that was signed: the ledger was made anew\n", "1 faults\n"});
    EXPECT_FALSE(good);
    // A signature with another digit.
    std::ofstream(file) << bytes;
    std::string heads = contents(folder / "ledger/heads");
    heads[heads.size() - 2] = heads[heads.size() - 2] == '0' ? '1' : '0';
    std::ofstream(folder / "ledger/heads") << heads;
    expect(verify(), {"heads:1: the signature does not hold"});
    std::ofstream(folder / "ledger/heads") << "26 00\n";
    expect(verify(), {"heads:1: not a signed head"});
    // What has faults is not vouched for.
    std::ofstream(file) << bytes.substr(0, 256 * 3 + 9) + "x" + bytes.substr(256 * 3 + 10);
    command.key = key.c_str();
    EXPECT_EQ(sign_ledger(command, stderr).error().code, Code::check_failed);
}

TEST_F(LedgerCommands, another_process_that_would_write_it_is_refused) {
    Folder second;
    const auto r = second.open_folder(path.c_str());
    ASSERT_FALSE(r);
    EXPECT_EQ(r.error().code, Code::busy);
}

TEST_F(LedgerCommands, show_prints_a_line_each) {
    command.last = 3;
    std::string said = print([&](FILE* out) { ASSERT_TRUE(show_ledger(command, out)); });
    EXPECT_EQ(std::count(said.begin(), said.end(), '\n'), 3);
    expect(said, {"      25 2026-01-01T00:00:20Z invoice          keep     its confidence reaches the threshold; "
                  "confidence 0.900 of 0.700, 120+20 tokens, 520 ms\n",
                  "stop"});
    command.last = 0;
    command.agent = "ticket";
    command.json = true;
    said = print([&](FILE* out) { ASSERT_TRUE(show_ledger(command, out)); });
    EXPECT_EQ(std::count(said.begin(), said.end(), '\n'), 12);
    expect(said, {"\"kind\":\"outcome\",\"code\":\"settled\"", "\"agent\":\"ticket\",\"answer\":\"escalate\"",
                  "\"refers\":2,", "\"image\":\"5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a\",\"adapter\":\"0000000000000000\""});
    command.agent = nullptr;
    command.since = "2026-01-02";
    EXPECT_EQ(print([&](FILE* out) { ASSERT_TRUE(show_ledger(command, out)); }), "");
    command.since = "soon";
    EXPECT_FALSE(show_ledger(command, stdout));
}

TEST_F(LedgerCommands, report_adds_up) {
    const std::string csv = folder / "report.csv", svg = folder / "report.svg";
    command.csv = csv.c_str(), command.svg = svg.c_str();
    command.prices = "10,100";
    const std::string said = print([&](FILE* out) { ASSERT_TRUE(report_ledger(command, out)); });
    // All-cloud: 20 x (120 x 10 + 20 x 100) millionths = 0.064; paid: 4 x 0.00045.
    expect(said,
           {"2026-01-01T00:00:01Z to 2026-01-01T00:00:20Z: 20 requests, 80.0 % answered on the board\n",
            "  keep             16   80.0 %\n", "  escalate          4   20.0 %\n", "of what left, 4 came back",
            "        4   20.0 %  its confidence is below the threshold\n", "  local           510      519      520\n",
            "  remote          900      900      900\n", "cost 0.001800; all of it by the large model 0.064000",
            ": 97.2 % less\n", "invoice                        10   80.0 %"});
    const std::string table = contents(csv);
    expect(table, {"agent,requests,local_share,",
                   "\"(all)\",20,0.800000,16,4,0,0,4,0,510,519,520,900,900,900,0.001800,0.064000,", "\"ticket\",10,"});
    EXPECT_EQ(std::count(table.begin(), table.end(), '\n'), 4);
    EXPECT_EQ(contents(svg).find("<svg "), 0u);
    expect(contents(svg), {"</svg>\n"});
    command.prices = "10";
    EXPECT_FALSE(report_ledger(command, stdout));
    command.prices = nullptr;
    command.agent = "nobody";
    EXPECT_EQ(print([&](FILE* out) { ASSERT_TRUE(report_ledger(command, out)); }), "no requests\n");
}

TEST_F(LedgerCommands, replay_finds_what_is_answered_or_decided_otherwise) {
    const std::string requests = folder / "requests.jsonl";
    {
        std::ofstream f(requests);
        for (int i = 0; i < 18; i++) f << "{\"input\":\"request " << i << "\"}\n";
    }
    command.requests = requests.c_str();
    int wrong = -1;
    std::string image(64, '5');
    for (std::size_t i = 1; i < image.size(); i += 2) image[i] = 'a';
    Replayer replayer{[&](const std::string& agent, const std::string& input, bool object) -> Result<std::string> {
                          const int i = std::stoi(input.substr(8));
                          EXPECT_EQ(agent, i % 2 == 0 ? "ticket" : "invoice");
                          EXPECT_FALSE(object);
                          return "answer " + std::to_string(i) + (i == wrong ? "!" : "");
                      },
                      [](const std::string&) -> Result<Replayer::Agent> { return Replayer::Agent{}; }, image};
    bool good = false;
    const auto said = [&] {
        return print([&](FILE* out) {
            const auto r = replay_ledger(command, replayer, out);
            ASSERT_TRUE(r) << r.error().text;
            good = r.value();
        });
    };
    expect(said(), {"20 decisions: 20 are decided as they were on their facts, 0 otherwise\n",
                    "18 answers made again: 18 are the same to the bit, 0 differ; 2 have no request there\n"});
    EXPECT_TRUE(good);
    wrong = 4;
    expect(said(), {"ticket answers otherwise now: another text of the agent's file, if not a defect\n", "1 differ"});
    EXPECT_FALSE(good);
    replayer.image = std::string(64, '0');
    expect(said(), {"ticket answers otherwise now: it was another image\n"});
    replayer.image = image;
    replayer.about = [](const std::string&) -> Result<Replayer::Agent> { return Replayer::Agent{"ab12"}; };
    expect(said(), {"it was another adapter\n"});

    // A record whose decision does not follow from its facts: a chain that is good, and a decision that is not.
    Ledger ledger;
    ASSERT_TRUE(ledger.open(disk, {}, {1'767'225'700'000, 105'000}));
    LedgerRecord r = decision_record(0);
    r.answer = Answer::keep;
    ASSERT_TRUE(ledger.append(r, {1'767'225'700'000, 105'000}));
    ASSERT_TRUE(ledger.stop({1'767'225'700'000, 105'000}));
    command.requests = nullptr;
    expect(said(), {"its facts are decided otherwise now: escalate, for its confidence is below the threshold",
                    "21 decisions: 20 are decided as they were on their facts, 1 otherwise\n"});
    EXPECT_FALSE(good);
}

TEST_F(LedgerCommands, export_joins_pairs_and_leaves_out_what_is_torn) {
    const std::string pairs = (folder / "pairs").string();
    fs::create_directory(pairs);
    const std::string one = R"({"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b"}]})",
                      two = R"({"messages":[{"role":"user","content":"c"},{"role":"assistant","content":"d"}]})";
    std::ofstream(pairs + "/ticket.jsonl") << one << "\n" << one << "\n" << two.substr(0, 20);
    std::ofstream(pairs + "/invoice.jsonl") << two << "\n{\"no\":1}\n";
    command.paths = {pairs.c_str()};
    command.pairs = "-";
    std::string said;
    const std::string all =
        print([&](FILE* out) { said = print([&](FILE* e) { ASSERT_TRUE(export_pairs(command, out, e)); }); });
    EXPECT_EQ(all, two + "\n" + one + "\n");
    EXPECT_EQ(said, "2 pairs; 1 were there more than once, 2 lines are no pairs\n");
    command.agent = "invoice";
    EXPECT_EQ(print([&](FILE* out) { ASSERT_TRUE(export_pairs(command, out, out)); }),
              two + "\n1 pairs; 0 were there more than once, 1 lines are no pairs\n");
    command.agent = "nobody";
    EXPECT_FALSE(export_pairs(command, stdout, stderr));
}

}  // namespace
}  // namespace slmd::client
