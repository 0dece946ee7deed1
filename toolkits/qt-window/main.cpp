// A window whose network is in its own thread, but in another language.

#include <QApplication>
#include <QDialog>
#include <QDialogButtonBox>
#include <QFont>
#include <QLabel>
#include <QPushButton>
#include <QVBoxLayout>
#include <QWidget>

#include "network.h"

namespace {

class MainWindow : public QWidget {
public:
    MainWindow()
    {
        setWindowTitle("Entwined in Qt");
        resize(640, 240);
        auto font = label_.font();
        font.setPointSize(18);
        label_.setFont(font);
        label_.setAlignment(Qt::AlignHCenter);
        auto *button = new QPushButton("Open the dialog");
        connect(button, &QPushButton::clicked, this, [this] { openDialog("You opened it."); });
        auto *layout = new QVBoxLayout(this);
        layout->addWidget(&label_, 1);
        layout->addWidget(new QLabel("Qt " + QString(qVersion())));
        layout->addWidget(button);
    }

    void setLabel(const char *text) { label_.setText(QString::fromUtf8(text)); }

    void openDialog(const char *text)
    {
        QDialog dialog(this);
        dialog.setWindowTitle("A dialog");
        auto *buttons = new QDialogButtonBox(QDialogButtonBox::Close);
        connect(buttons, &QDialogButtonBox::rejected, &dialog, &QDialog::reject);
        // There may be no window manager that draws a frame, or finds a place beside the label.
        dialog.setStyleSheet("QDialog { border: 2px solid palette(highlight) }");
        dialog.move(mapToGlobal(QPoint(120, 90)));
        auto *layout = new QVBoxLayout(&dialog);
        layout->addWidget(new QLabel(QString::fromUtf8(text)));
        layout->addWidget(buttons);
        // A loop of its own. If a request opened it, that request waits, and others are served.
        dialog.exec();
    }

private:
    QLabel label_{"curl -X PUT --data hello 127.0.0.1:PORT/label"};
};

MainWindow *of(void *window) { return static_cast<MainWindow *>(window); }

} // namespace

int main(int argc, char **argv)
{
    QApplication application(argc, argv);
    MainWindow window;
    const Window requests{
        &window,
        [](void *w, const char *text) { of(w)->setLabel(text); },
        [](void *w, const char *text) { of(w)->openDialog(text); },
        // It ends the loops of dialogs, too.
        [](void *) { QApplication::quit(); },
    };
    if (!network_start(&requests))
        return 1;
    window.show();
    return QApplication::exec();
}
