// A labelled file, and the choice between its labels as texts that begin alike.
#pragma once
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "base/result.h"
#include "model.h"

namespace slmd::pack {

// What a model is asked: {text} stands for a line's text, {labels} for all labels, {label} for the one that is tried.
constexpr char usual_task_prompt[] = "Labels: {labels}\n\nText: {text}\nLabel: {label}\n";

struct Task {
    struct Line {
        std::string text;
        std::size_t label;   // of labels
        std::size_t number;  // in the file, from 1
    };
    std::vector<std::string> labels;       // in order of their bytes
    std::vector<std::size_t> label_lines;  // where each occurs first
    std::vector<Line> lines;
    std::string sha256;  // of the file
};

// A line an example: text, a tab, label; UTF-8; empty lines do not count. limit: not 0: so many lines at most, as many
// of every label as of any other where the file has them. Errors: storage_failure; incorrect_parameters, naming the
// line: no tab or more than one, a text or a label that is empty or blank, a label that occurs only once (most likely
// a typo), fewer than two labels.
Result<Task> read_task(const std::string& path, std::size_t limit);

// The label's texts, whole (prompt, label, and what follows it), as a tree of tokens.
struct Choices {
    // Those that something follows; row i continues row parents[i], or, -1, nothing. The first `trunk` are the common
    // beginning, one behind the other.
    std::vector<std::int32_t> tokens, parents;
    std::size_t trunk = 0;
    struct Step {
        std::size_t row;     // after which
        std::int32_t token;  // comes
    };
    // Of each label: the steps from the end of the trunk on. The sum of their log-probabilities is what the model
    // thinks of the label (lm-evaluation-harness: loglikelihood of a continuation, whose largest is `acc`).
    std::vector<std::vector<Step>> labels;

    std::size_t longest() const;             // tokens of the longest text, less its last
    std::vector<std::size_t> asked() const;  // rows after which something is to be known, rising
};

// prompt: with {text} and behind it {label}. Errors: incorrect_parameters: a placeholder is missing; a label makes no
// tokens, or the same as another; nothing stands before the labels.
Result<Choices> choices_of(const LoadedTokenizer& tokenizer, const std::string& prompt, const Task& task,
                           const Task::Line& line);
Result<void> check_prompt(const std::string& prompt);
// Errors: incorrect_parameters, with its line: a label of which the tokenizer makes nothing.
Result<void> check_labels(const LoadedTokenizer& tokenizer, const std::string& path, const Task& task);

}  // namespace slmd::pack
