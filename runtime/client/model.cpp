#include "client/model.h"

#include <errno.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "daemon/config.h"
#include "daemon/trust.h"
#include "image/image.h"
#include "image/signature.h"
#include "image/slots.h"

extern char** environ;

namespace slmd::client {
namespace {

using namespace image;

constexpr int exit_failed = 1, exit_usage = 64;

int complain(const Error& e) {
    fprintf(stderr, "slmctl: %s\n", e.text);
    return exit_failed;
}

void describe(const SlotFolder& folder, const Slots& slots, int i) {
    char path[512];
    folder.path_of(i, path);
    const Slot& slot = slots.slot[i];
    const char* const mark = i == slots.active ? "*" : i == slots.candidate ? ">" : " ";
    printf("%s %c  %-6s", mark, slot_letter(i), slot_state_name(slot.state));
    struct stat st;
    if (slot.state != SlotState::empty && stat(path, &st) == 0) {
        const auto index = Image::open_index(path);
        if (index) {
            const ModelParams& params = index.value().params();
            const RawHeader& header = index.value().header();
            printf("  %12lld  %-16s  %.64s", static_cast<long long>(st.st_size),
                   is_signed(header) ? name_of(signer(header)).hex : "not signed", params.name);
        } else {
            printf("  %s", index.error().text);
        }
    }
    puts("");
    if (slot.why[0] != 0) printf("     %s\n", slot.why);
    if (i == slots.candidate && slots.tries < max_tries)
        printf("     is tried at slmd's next start (%d of %d)\n", slots.tries + 1, max_tries);
    else if (i == slots.candidate)
        printf("     came to nothing %d times: slmd's next start gives it up\n", slots.tries);
}

int list(const SlotFolder& folder) {
    const Slots slots = folder.read();
    printf("  %-4s%-8s%12s  %-16s  %s\n", "", "state", "bytes", "signed by", "model");
    for (int i = 0; i < slot_count; i++) describe(folder, slots, i);
    return 0;
}

// The service, as systemctl starts it: it comes back when slmd is ready, or has failed. False: there is none here.
bool restart_service(int& status) {
    char program[] = "systemctl", verb[] = "restart", unit[] = "slmd.service";
    char* const argv[] = {program, verb, unit, nullptr};
    pid_t pid;
    if (access("/run/systemd/system", F_OK) != 0 || posix_spawnp(&pid, program, nullptr, nullptr, argv, environ) != 0)
        return false;
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
    }
    return true;
}

int start_on(const SlotFolder& folder, const ModelCommand& command, int slot) {
    const Slots before = folder.read();
    const bool tried = slot == before.candidate;
    int status = 0;
    if (!command.restart || !restart_service(status)) {
        printf("slot %c %s at the next start of slmd\n", slot_letter(slot), tried ? "is tried" : "answers");
        return 0;
    }
    // It may have crashed with the new model: systemd starts it again, and the tries are counted.
    Slots now = folder.read();
    for (int i = 0; i < 600 && now.candidate == slot; i++) {
        usleep(100'000);
        now = folder.read();
    }
    if (now.active == slot && now.candidate != slot && WIFEXITED(status) && WEXITSTATUS(status) == 0) {
        printf("slot %c answers\n", slot_letter(slot));
        return 0;
    }
    if (now.slot[slot].state == SlotState::bad)
        fprintf(stderr, "slmctl: slot %c did not pass: %s\n", slot_letter(slot), now.slot[slot].why);
    else
        fprintf(stderr, "slmctl: slmd did not start; journalctl -u slmd says why\n");
    if (now.active >= 0) fprintf(stderr, "slmctl: slot %c is active\n", slot_letter(now.active));
    return exit_failed;
}

int install(const SlotFolder& folder, const ModelCommand& command, const Trust& trust) {
    const auto slot = folder.install(command.argument, trust);
    if (!slot) return complain(slot.error());
    puts("checked, copied and read back:");
    describe(folder, folder.read(), slot.value());
    printf("slmctl model activate tries it\n");
    return 0;
}

Result<int> letter(const char* text) {
    for (int i = 0; i < slot_count; i++)
        if (text[0] == slot_letter(i) && text[1] == 0) return i;
    return Error::make(Code::incorrect_parameters, "no slot \"%s\": there are a and b", text);
}

}  // namespace

int run_model(const ModelCommand& command) {
    const bool is_install = strcmp(command.verb, "install") == 0, is_activate = strcmp(command.verb, "activate") == 0,
               is_rollback = strcmp(command.verb, "rollback") == 0, is_list = strcmp(command.verb, "list") == 0;
    if ((is_install ? command.argument == nullptr : !is_activate && command.argument != nullptr) ||
        !(is_install || is_activate || is_rollback || is_list)) {
        fputs("slmctl: model install IMAGE, model activate [a|b], model rollback, model list\n", stderr);
        return exit_usage;
    }
    static daemon::Config config;
    static daemon::TrustedKeys keys;
    const auto folder = [&]() -> Result<SlotFolder> {
        TRY(daemon::read_config(command.config, config));
        TRY(daemon::read_keys(config, keys));
        if (access(config.model, R_OK) != 0 && errno == EACCES)
            return Error::make(Code::storage_failure, "%s: only root may look there: sudo slmctl model ...",
                               config.model);
        if (!is_slot_folder(config.model))
            return Error::make(Code::incorrect_parameters,
                               "%s: model = \"%s\" is not a folder; slots need one, such as \"/var/lib/slmd/models\"",
                               command.config, config.model);
        return SlotFolder::open(config.model);
    }();
    if (!folder) return complain(folder.error());
    if (is_list) return list(folder.value());
    if (is_install) return install(folder.value(), command, keys.trust());
    const auto chosen = [&]() -> Result<int> {
        if (is_rollback) return folder.value().rollback();
        return folder.value().activate(command.argument == nullptr ? -1 : TRY(letter(command.argument)));
    }();
    return chosen ? start_on(folder.value(), command, chosen.value()) : complain(chosen.error());
}

}  // namespace slmd::client
