// What a model's own probabilities say of an answer: made by the engine's tasks, judged by agents, sent by wires.
#pragma once

namespace slmd {

// Each from 0 to 1, and higher where the model was surer. Tokens: those that the model drew, the end of the answer
// among them; what a constraint forces is not drawn. Probabilities: at temperature 1, before top-k, top-p and min-p,
// after penalty and bias; among the allowed tokens where a constraint lets only few follow, or has ruled the model's
// choice out. Of an answer in which nothing was drawn all are 1: nothing was left to the model.
struct Features {
    float min = 1;      // least probability of a drawn token; of labels: the best one's
    float mean = 1;     // geometric mean of those probabilities, which is 1 / perplexity; of labels: as min
    float margin = 1;   // mean over the tokens of the most probable's lead over the second; of labels: the best one's
    float entropy = 1;  // exp(-mean of the distributions' entropies in nats); of labels: of theirs

    bool operator==(const Features&) const = default;
};

}  // namespace slmd
