// Requests to slmd and what comes back, for the commands of slmctl.
#pragma once
#include <csignal>
#include <string>

#include "client/connection.h"
#include "wire/json.h"

namespace slmd::client {

constexpr int exit_failed = 1, exit_connection = 2, exit_unsure = 3, exit_refuted = 4, exit_usage = 64,
              exit_interrupted = 130;

extern volatile std::sig_atomic_t interrupts;  // Ctrl-C, so far

class Caller {
  public:
    explicit Caller(Connection& connection) : connection_(connection) {}

    // One request and its reply; tok notifications go to standard output as they come, provisional ones to standard
    // error. waits: for as long as it takes, and Ctrl-C cancels it. The reply's object stays in reader().
    Result<const JsonNode*> call(const char* method, const std::string& params, bool waits);
    // A prompt of any length over a serial line: AT#GEN, text, Ctrl-Z.
    Result<void> ask_at(const std::string& prompt);
    // Until the model is there, with a line of progress.
    Result<void> wait_for_model();

    const wire::JsonLine& reader() const { return reader_; }
    const std::string& line() const { return line_; }
    bool printed() const { return printed_; }
    void progress_off();

  private:
    void progress(const char* what, long done, long total);
    Result<const JsonNode*> reply(bool waits);
    void notified(const JsonNode& method, const JsonNode& params);
    void print_at(std::string_view escaped);

    Connection& connection_;
    wire::JsonLine reader_;
    std::string line_, copy_;
    int id_ = 0;
    bool progress_ = false, printed_ = false, provisional_ = false;
};

std::string quoted(std::string_view text);  // as a JSON string
std::string read_all(FILE* file);
// option: stands before the path in an error. Errors: storage_failure.
Result<std::string> read_text(const char* path, const char* option = "");
// Says it; returns the exit status.
int complain(const Error& e, int code);
int outcome(const Error& e);

}  // namespace slmd::client
