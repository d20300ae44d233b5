// What a mix of a local model and a large one gives: the answers in which the local one trusts least go to the large
// one.
#pragma once
#include <cstdint>
#include <span>
#include <vector>

namespace slmd::client {

// What one model said to one case.
struct LocalAnswer {
    bool right = false, failed = false;  // failed: a check of the agent
    float confidence = 0;
    double ms = 0, joules = -1;  // joules below 0: not known
};
struct LargeAnswer {
    bool known = false, right = false;
    double ms = 0, cost = 0;
};

// Of all cases, so many of which leave.
struct Mix {
    double threshold = 0;     // what is less confident leaves, as does what failed a check; above 1: everything leaves
    double escalated = 0;     // share
    double right = 0;         // share
    double cost = 0, ms = 0;  // means of a request
};

// Mixes from all-local to all-cloud, one for each confidence that a threshold can part. Cases of equal confidence leave
// together. Both spans have the same cases.
std::vector<Mix> mixes(std::span<const LocalAnswer> local, std::span<const LargeAnswer> large);
// The share of right answers when that share leaves, by chance, and by one who knows which answers are right.
double random_right(std::span<const LocalAnswer> local, std::span<const LargeAnswer> large, double escalated);
double oracle_right(std::span<const LocalAnswer> local, std::span<const LargeAnswer> large, double escalated);
// The mix of at most that share, for a curve: that of the largest threshold that keeps to it.
const Mix& at_share(std::span<const Mix> all, double escalated);
// The cheapest that is at least so good; of equally cheap ones that of which the least leaves. Null: none is.
const Mix* cheapest(std::span<const Mix> all, double right);
bool cheaper(const Mix& a, const Mix& b);

// That a right answer is more confident than a wrong one, ties half; 0.5 when all are right or all are wrong.
double auroc(std::span<const LocalAnswer> local);

}  // namespace slmd::client
