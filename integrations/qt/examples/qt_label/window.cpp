// A window whose label is set by requests. The network is in `sys.rs`.

#include <QApplication>
#include <QLabel>

extern "C" bool network_start();

static QLabel *label;

extern "C" void window_set_label(const char *text)
{
    label->setText(QString::fromUtf8(text));
}

extern "C" void window_quit()
{
    QApplication::quit();
}

int main(int argc, char **argv)
{
    QApplication application(argc, argv);
    QLabel window("Nobody has said anything.");
    label = &window;
    window.setAlignment(Qt::AlignCenter);
    window.resize(400, 120);
    if (!network_start())
        return 1;
    window.show();
    return QApplication::exec();
}
