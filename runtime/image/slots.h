// Two places for a model in one folder, a.slm and b.slm: a new one is put beside the one that answers, is tried at the
// next start, and only when it has passed becomes the one that answers. The other one stays, to go back to.
//
//     empty --install--> staged --activate, start--> tried --passes--> good, and active
//                                                      \--fails, or does not get ready in 3 starts--> bad; the active
//                                                      one goes on
//
// What is where is a record of 1 KiB, the file `slots`, replaced whole (AtomicFile), so that a power cut at any step
// leaves the record before or after it. No step needs a clock, a network, or memory for a second model.
#pragma once
#include <cstdint>

#include "base/result.h"
#include "image/image.h"

namespace slmd::image {

constexpr int slot_count = 2, max_tries = 3;
constexpr char slot_letter(int slot) { return static_cast<char>('a' + slot); }

enum class SlotState : std::uint32_t { empty = 0, staged = 1, good = 2, bad = 3 };
const char* slot_state_name(SlotState state);

struct Slot {
    SlotState state = SlotState::empty;
    std::uint32_t serial = 0;  // goes up with each installation
    char why[208] = "";        // bad: what was wrong with it
};

struct Slots {
    int active = -1;     // that answers; -1: none
    int candidate = -1;  // that is to be tried at the next start; -1: none
    int tries = 0;       // starts that tried it, and did not come to an end
    Slot slot[slot_count];
};

// What slmd is to run.
struct Choice {
    int slot = -1;             // -1: there is no model
    std::uint32_t serial = 0;  // of the installation
    bool trial = false;        // it is not confirmed yet
    char path[512] = "";
};

bool is_slot_folder(const char* path);

class SlotFolder {
  public:
    // Errors: storage_failure, text_too_long.
    static Result<SlotFolder> open(const char* folder);

    // The record; where it is missing or damaged: what the images that are there say, the first whole one active.
    Slots read() const;
    void path_of(int slot, char (&out)[512]) const;

    // For a look only: what choose() would give, or slot -1.
    Choice next() const;
    // What to do where there is no model. Code: not_found.
    Error nothing() const;
    // At a start: counts the try of a candidate, before anything of it is opened, and gives up one that was tried
    // max_tries times. Where nothing answers yet, what is staged is one. A record that cannot be written is no reason
    // not to start: then a candidate is not tried, unless there is nothing else. Errors: not_found, when there is no
    // model, saying what to do.
    Result<Choice> choose() const;
    // It passed. Errors: storage_failure; not_found when the slot holds another installation by now.
    Result<void> confirm(const Choice& choice) const;
    // It did not, or the active one cannot be read any more: it becomes bad, unless the active one is all there is.
    // Gives what to go on with. Errors: not_found: there is nothing else.
    Result<Choice> reject(const Choice& choice, const char* why) const;

    // Puts an image, or the result of a difference (image/delta.h) on the active one, into the slot that does not
    // answer, and gives that slot, staged. Checks everything before, and what arrived on the medium after it. What the
    // slot held stays until then, but where only its room makes the new one fit. Errors: those of audit() and
    // apply_delta(), storage_failure.
    Result<int> install(const char* source, const Trust& trust) const;
    // Has a slot tried at the next start. slot -1: the staged one. Errors: incorrect_parameters (nothing is staged; the
    // slot is empty, bad, or answers already).
    Result<int> activate(int slot) const;
    // The same with the good slot that does not answer; a candidate that was not tried yet is taken back: then gives
    // the active one. Errors: incorrect_parameters.
    Result<int> rollback() const;

  private:
    class Lock;
    Result<void> write(const Slots& slots) const;
    void remove_leftovers() const;
    Choice choice(const Slots& slots, int slot) const;
    char folder_[480];
};

}  // namespace slmd::image
