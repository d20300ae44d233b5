// Every combination of facts: what may leave, and in which order the reasons are asked for.
#include "route/decide.h"

#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <vector>

namespace slmd::route {
namespace {

std::vector<Facts> all_facts() {
    std::vector<Facts> all;
    for (int bits = 0; bits < 1 << 7; bits++)
        for (const Policy policy : {Policy::never, Policy::redacted, Policy::allowed})
            for (const Wish wish : {Wish::none, Wish::stay, Wish::leave})
                for (const float confidence : {0.2f, 0.8f, 0.9f, NAN}) {
                    const auto bit = [&](int i) { return (bits >> i & 1) != 0; };
                    all.push_back(
                        {policy, bit(0), wish, bit(1), bit(2), confidence, 0.8f, bit(3), bit(4), bit(5), bit(6)});
                }
    return all;
}

TEST(Decide, nothing_leaves_but_when_everything_allows_it) {
    int escalated = 0, queued = 0, refused = 0;
    for (const Facts& f : all_facts()) {
        const Decision d = decide(f);
        const bool wanted =
            f.wish == Wish::leave ||
            (f.wish == Wish::none && (f.checks_failed || (f.calibrated && !(f.confidence >= f.threshold))));
        const bool allowed = f.policy != Policy::never && !f.cut && wanted;
        const bool ready = (f.policy == Policy::allowed || f.redacted) && f.affordable;
        EXPECT_EQ(d.answer == Answer::escalate, allowed && ready && f.link);
        EXPECT_EQ(d.answer == Answer::queue, allowed && ready && !f.link && f.may_wait);
        EXPECT_EQ(d.answer == Answer::keep, !allowed);
        escalated += d.answer == Answer::escalate, queued += d.answer == Answer::queue;
        refused += d.answer == Answer::refuse;
        EXPECT_STRNE(name_of(d.answer), "");
        EXPECT_STRNE(name_of(d.reason), "");
    }
    EXPECT_GT(escalated, 50);
    EXPECT_GT(queued, 20);
    EXPECT_GT(refused, 200);
}

TEST(Decide, what_nobody_set_keeps_everything_here) {
    const Decision d = decide({});
    EXPECT_EQ(d.answer, Answer::keep);
    EXPECT_EQ(d.reason, Reason::policy);
}

TEST(Decide, the_first_reason_is_told) {
    Facts f{.policy = Policy::redacted,
            .cut = false,
            .wish = Wish::none,
            .checks_failed = true,
            .calibrated = true,
            .confidence = 0.1f,
            .threshold = 0.5f,
            .redacted = true,
            .affordable = true,
            .link = true};
    const auto says = [&](Answer answer, Reason reason) {
        const Decision d = decide(f);
        EXPECT_EQ(d.answer, answer) << name_of(d.reason);
        EXPECT_EQ(d.reason, reason) << name_of(d.reason);
    };
    says(Answer::escalate, Reason::checks);
    f.checks_failed = false;
    says(Answer::escalate, Reason::doubt);
    f.wish = Wish::leave;
    says(Answer::escalate, Reason::wish_leave);
    f.link = false;
    says(Answer::refuse, Reason::no_link);
    f.may_wait = true;
    says(Answer::queue, Reason::no_link);
    f.affordable = false;
    says(Answer::refuse, Reason::budget);
    f.redacted = false;
    says(Answer::refuse, Reason::not_redacted);
    f.wish = Wish::none;
    f.calibrated = false;
    says(Answer::keep, Reason::uncalibrated);
    f.wish = Wish::stay;
    says(Answer::keep, Reason::wish_stay);
    f.cut = true;
    says(Answer::keep, Reason::cut);
    f.policy = Policy::never;
    says(Answer::keep, Reason::policy);
}

}  // namespace
}  // namespace slmd::route
