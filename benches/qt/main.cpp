// A Qt window that draws each frame, with or without a web server in its thread.
// Arguments: idle|ours --http ADDRESS --seconds N --cost MILLISECONDS --hertz N.

#include <QApplication>
#include <QLabel>
#include <QPainter>
#include <QTimer>
#include <QVBoxLayout>
#include <QWidget>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <ctime>
#include <vector>

extern "C" bool serve(unsigned short port, void (*request)(void *), void *window);

namespace {

double milliseconds(clockid_t clock)
{
    timespec time;
    clock_gettime(clock, &time);
    return double(time.tv_sec) * 1e3 + double(time.tv_nsec) / 1e6;
}

class Area : public QWidget {
public:
    explicit Area(double cost) : cost_(cost) {}

protected:
    void paintEvent(QPaintEvent *) override
    {
        const double start = milliseconds(CLOCK_THREAD_CPUTIME_ID);
        while (milliseconds(CLOCK_THREAD_CPUTIME_ID) - start < cost_) { }
        QPainter painter(this);
        painter.fillRect(rect(), Qt::white);
        painter.fillRect(int(number_++ % 60 / 60.0 * width()), 0, 20, height(), Qt::black);
    }

private:
    double cost_;
    unsigned number_ = 0;
};

class Window : public QWidget {
public:
    Window(double cost, double hertz) : area_(cost), interval_(1000 / hertz)
    {
        resize(400, 300);
        auto *layout = new QVBoxLayout(this);
        layout->addWidget(&label_);
        layout->addWidget(&area_, 1);
        timer_.setTimerType(Qt::PreciseTimer);
        timer_.setSingleShot(true);
        connect(&timer_, &QTimer::timeout, this, [this] {
            area_.update();
            wait();
        });
        next_ = milliseconds(CLOCK_MONOTONIC);
        wait();
    }

    void request() { label_.setText(QString::number(++requests_) + " requests"); }

    // The gaps between frames, without the beginning and the end.
    void report()
    {
        std::vector<double> gaps;
        double lost = 0;
        for (size_t at = 1; at < drawn_.size(); ++at) {
            if (drawn_[at - 1] < drawn_[0] + 1500 || drawn_[at] + 1000 > drawn_.back())
                continue;
            gaps.push_back(drawn_[at] - drawn_[at - 1]);
            lost += std::max(std::round(gaps.back() / interval_) - 1, 0.0);
        }
        if (gaps.empty())
            return;
        std::sort(gaps.begin(), gaps.end());
        std::printf("{\"frames\":%zu,\"lost\":%.0f,\"p50\":%.2f,\"p99\":%.2f,\"max\":%.2f}\n",
                    gaps.size(), lost, gaps[gaps.size() / 2], gaps[gaps.size() * 99 / 100],
                    gaps.back());
    }

protected:
    bool event(QEvent *event) override
    {
        // After this, the frame is at the display.
        const bool done = QWidget::event(event);
        if (event->type() == QEvent::UpdateRequest)
            drawn_.push_back(milliseconds(CLOCK_MONOTONIC));
        return done;
    }

private:
    // Until the next beat. Qt's timers have whole milliseconds.
    void wait()
    {
        const double now = milliseconds(CLOCK_MONOTONIC);
        while (next_ <= now)
            next_ += interval_;
        timer_.start(int(std::ceil(next_ - now)));
    }

    QLabel label_{"no requests"};
    Area area_;
    double interval_;
    QTimer timer_;
    double next_;
    std::vector<double> drawn_;
    unsigned long requests_ = 0;
};

} // namespace

int main(int argc, char **argv)
{
    QApplication application(argc, argv);
    const bool ours = argc > 1 && !std::strcmp(argv[1], "ours");
    int port = 0, seconds = 10;
    double cost = 0, hertz = 60;
    for (int at = 2; at + 1 < argc; at += 2) {
        if (!std::strcmp(argv[at], "--http"))
            port = std::atoi(std::strrchr(argv[at + 1], ':') + 1);
        else if (!std::strcmp(argv[at], "--seconds"))
            seconds = std::atoi(argv[at + 1]);
        else if (!std::strcmp(argv[at], "--cost"))
            cost = std::atof(argv[at + 1]);
        else if (!std::strcmp(argv[at], "--hertz"))
            hertz = std::atof(argv[at + 1]);
    }
    Window window(cost, hertz);
    if (!ours)
        std::puts("http listening on nothing");
    else if (!serve(static_cast<unsigned short>(port),
                    [](void *w) { static_cast<Window *>(w)->request(); }, &window))
        return 1;
    std::fflush(stdout);
    window.show();
    QTimer::singleShot(seconds * 1000, &application, &QApplication::quit);
    QApplication::exec();
    window.report();
    return 0;
}
