#include "route/decide.h"

namespace slmd::route {

Decision decide(const Facts& f) {
    if (f.policy == Policy::never) return {Answer::keep, Reason::policy};
    if (f.cut) return {Answer::keep, Reason::cut};
    if (f.wish == Wish::stay) return {Answer::keep, Reason::wish_stay};
    Reason why = Reason::wish_leave;
    if (f.wish != Wish::leave) {
        if (f.checks_failed)
            why = Reason::checks;
        else if (!f.calibrated)
            return {Answer::keep, Reason::uncalibrated};
        else if (f.confidence >= f.threshold)
            return {Answer::keep, Reason::confident};
        else
            why = Reason::doubt;  // NaN, too
    }
    if (f.policy == Policy::redacted && !f.redacted) return {Answer::refuse, Reason::not_redacted};
    if (!f.affordable) return {Answer::refuse, Reason::budget};
    if (!f.link) return {f.may_wait ? Answer::queue : Answer::refuse, Reason::no_link};
    return {Answer::escalate, why};
}

const char* name_of(Answer answer) {
    constexpr const char* names[] = {"keep", "escalate", "queue", "refuse"};
    return names[static_cast<int>(answer)];
}

const char* name_of(Reason reason) {
    constexpr const char* names[] = {"the agent's policy is never",
                                     "the privacy switch is off or cannot be read",
                                     "the request is to stay",
                                     "its confidence reaches the threshold",
                                     "its confidence is not calibrated",
                                     "what would leave cannot be redacted",
                                     "the budget does not allow it",
                                     "there is no link",
                                     "the request asks for the large model",
                                     "a check of the local answer failed",
                                     "its confidence is below the threshold",
                                     "the large model gave no answer that can be used"};
    return names[static_cast<int>(reason)];
}

}  // namespace slmd::route
