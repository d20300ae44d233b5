// slmctl model: the two places of a board for a model, without slmd's help.
#pragma once
#include <span>

namespace slmd::client {

struct ModelCommand {
    const char* verb = "";                       // install, activate, rollback, list
    const char* argument = nullptr;              // of install: an image, or a difference; of activate: a or b
    const char* config = "/etc/slmd/slmd.toml";  // where the folder and the allowed keys are read
    bool restart = true;                         // has systemd start slmd again, and waits for what comes of it
};
// Prints what it did. Exit status: 0 done, 1 refused or failed, 64 wrong usage.
int run_model(const ModelCommand& command);

}  // namespace slmd::client
